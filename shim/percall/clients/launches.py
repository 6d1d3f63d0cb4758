"""What a configured server launches, as one word that recipes and catalogue entries can name.

`npm:PACKAGE`, `pypi:PACKAGE`, `docker:IMAGE`, `program:NAME`, or a remote server's URL without its query. Versions and
everything that could be a secret are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NODE = frozenset({"npx", "bunx"})
_NODE_RUNNERS = {"pnpm": ("dlx", "exec"), "yarn": ("dlx",), "npm": ("exec", "x"), "bun": ("x",)}
_PYTHON = frozenset({"python", "python3", "py"})
_SHELLS = frozenset({"sh", "bash", "zsh", "cmd"})
# Options that take a value; all others are taken as flags of their own.
_NODE_VALUES = frozenset({"--registry", "--cache", "--prefix", "-c", "--call"})
_NODE_PACKAGES = frozenset({"-p", "--package"})
_PYTHON_VALUES = frozenset({
    "--python", "-p", "--with", "--with-editable", "--with-requirements", "--index-url", "--index", "-i",
    "--extra-index-url", "--default-index", "--directory", "--project", "--refresh-package", "--cache-dir",
    "--env-file", "--pip-args", "--prerelease", "--constraints", "-c",
})  # fmt: skip
_PYTHON_PACKAGES = frozenset({"--from", "--spec"})
_DOCKER_FLAGS = frozenset({
    "-i", "-t", "-it", "-ti", "-d", "--rm", "--init", "--interactive", "--tty", "--privileged", "--read-only",
    "--detach", "-q", "--quiet", "--no-healthcheck",
})  # fmt: skip
_MODULE_IN_PATH = re.compile(r"(?:^|/)node_modules/((?:@[^/]+/)?[^/]+)")
_BRIDGES = frozenset({"mcp-remote", "supergateway", "mcp-proxy"})
_NORMAL = re.compile(r"[-_.]+")


def launched(command: Sequence[str], url: str = "") -> str:
    """What a server's config launches; empty where it says nothing that could be recognised."""
    if url:
        return _remote(url)
    words = list(command)
    if words and _program(words[0]) == "env":
        words = _after_variables(words[1:])
    if words and _program(words[0]) in _SHELLS and len(words) > 2 and words[1].lower() in {"-c", "/c", "-lc"}:  # noqa: PLR2004
        words = words[2].split() if len(words) == 3 else words[2:]  # noqa: PLR2004 - the shell's one line
    return _of(words)


def fits(launch: str, known: Iterable[str]) -> bool:
    """Whether a launch is one of those that an entry names; a remote server's URL covers what lies below it."""
    return any(launch == one or ("://" in one and launch.startswith(f"{one}/")) for one in known if launch)


def _of(words: list[str]) -> str:  # noqa: PLR0911 - one line for each way of launching
    if not words:
        return ""
    program, rest = _program(words[0]), words[1:]
    if program in _NODE:
        return _npm(rest)
    if program in _NODE_RUNNERS and rest[:1] and rest[0] in _NODE_RUNNERS[program]:
        return _npm(rest[1:])
    if program == "uvx":
        return _pypi(rest)
    if program in {"uv", "pipx"} and "run" in rest[:2]:
        return _pypi(rest[rest.index("run") + 1 :])
    if program in _PYTHON:
        return f"pypi:{_normal(rest[1])}" if rest[:1] == ["-m"] and len(rest) > 1 else ""
    if program in {"docker", "podman"} and "run" in rest[:2]:
        return _image(rest[rest.index("run") + 1 :])
    if program == "node":
        found = next((match for word in rest if (match := _MODULE_IN_PATH.search(word.replace("\\", "/")))), None)
        return f"npm:{found[1]}" if found else ""
    return f"program:{program}"


def _npm(words: list[str]) -> str:
    named, rest = _first(words, _NODE_VALUES, _NODE_PACKAGES)
    name = re.sub(r"(?<=.)@.*", "", named)
    if name in _BRIDGES:
        url = next((word for word in rest if word.startswith(("https://", "http://"))), "")
        return _remote(url) if url else f"npm:{name}"
    return f"npm:{name}" if name else ""


def _pypi(words: list[str]) -> str:
    named, _ = _first(words, _PYTHON_VALUES, _PYTHON_PACKAGES)
    return f"pypi:{_normal(named)}" if named and not re.search(r"[/\\:]", named) else ""


def _normal(requirement: str) -> str:
    """A package's name as PyPI compares it (PEP 503): without its extras and version."""
    return _NORMAL.sub("-", re.split(r"[\[=<>!~@; ]", requirement, maxsplit=1)[0]).lower()


def _image(words: list[str]) -> str:
    values = iter(words)
    for word in values:
        if not word.startswith("-"):
            image = word.partition("@")[0]
            head, slash, last = image.rpartition("/")
            return f"docker:{head}{slash}{last.partition(':')[0]}"
        if word not in _DOCKER_FLAGS and "=" not in word:
            next(values, "")
    return ""


def _first(words: list[str], with_value: frozenset[str], packages: frozenset[str]) -> tuple[str, list[str]]:
    """The package that is named, by an option or as the first word that is none; and the words after it."""
    index = 0
    while index < len(words):
        name, equals, value = words[index].partition("=")
        if name in packages:
            return (
                (value, words[index + 1 :]) if equals else ("".join(words[index + 1 : index + 2]), words[index + 2 :])
            )
        if not words[index].startswith("-"):
            return words[index], words[index + 1 :]
        index += 2 if name in with_value and not equals else 1
    return "", []


def _after_variables(words: list[str]) -> list[str]:
    while words and ("=" in words[0] or words[0].startswith("-")):
        words = words[1:]
    return words


def _program(path: str) -> str:
    return re.sub(r"\.(?:exe|cmd|bat|ps1)$", "", re.split(r"[/\\]", path)[-1], flags=re.IGNORECASE).lower()


def _remote(url: str) -> str:
    """A URL without credentials, query or trailing slash, its host in lower case."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not host:
        return ""
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"

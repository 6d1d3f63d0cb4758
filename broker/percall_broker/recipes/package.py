"""The facts of a package, read from its own files: version, variables, hosts. Nothing of it is run.

The package comes by npm or pip, which the machine has configured; it is unpacked into a folder of its own that ends
with the reading.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from percall_broker.model.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PACKAGE = re.compile(r"(npm):(@?[a-z0-9][\w./-]*)(?:@([\w.+-]+))?|(pypi):([A-Za-z0-9][\w.-]*)(?:==([\w.+!-]+))?")
_VARIABLE = re.compile(
    r"""(?x) process\.env\.([A-Z][A-Z0-9_]{2,60}) | process\.env\[["']([A-Z][A-Z0-9_]{2,60})
    | environ(?:\.get)?[\[(]\s*["']([A-Z][A-Z0-9_]{2,60}) | getenv\(\s*["']([A-Z][A-Z0-9_]{2,60})"""
)
_HOST = re.compile(r"https://([a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9-]+)*\.[a-z]{2,10})(?![\w.-])")
_KEY = re.compile(r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PAT)(?:_|$)")
_BASE_URL = re.compile(r"(?:^|_)(?:BASE|API|SERVER|HOST)_?(?:URL|URI|ENDPOINT)(?:_|$)")
_NOT_AN_API = re.compile(
    r"(?:^|\.)(?:github|githubusercontent|npmjs|nodejs|w3|json-schema|modelcontextprotocol|mozilla|google|example|python"
    r"|readthedocs|pydantic|spdx|ietf|rfc-editor|schema|opensource|apache|shields|discord|twitter|x)\.\w+$|^docs?\."
)
_SOURCES = frozenset({".js", ".mjs", ".cjs", ".ts", ".py"})
_ASIDE = re.compile(r"\.d\.ts$|/node_modules/|/__?tests?__?/|/tests?/|[._]test\.\w+$")
_MOST_BYTES = 32 * 1024 * 1024
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Facts:
    """What a package's own files say. The lists begin with what is most likely meant."""

    kind: str
    name: str
    version: str
    keys: tuple[str, ...]
    base_urls: tuple[str, ...]
    hosts: tuple[str, ...]

    @property
    def command(self) -> tuple[str, ...]:
        """How it is launched, with this version."""
        if self.kind == "npm":
            return ("npx", "-y", f"{self.name}@{self.version}")
        return ("uvx", f"{self.name}=={self.version}")


def facts(package: str) -> Facts:
    """Downloads `npm:NAME[@VERSION]` or `pypi:NAME[==VERSION]` and reads it. Raises InvalidInput, Unavailable."""
    named = _PACKAGE.fullmatch(package)
    if not named:
        raise InvalidInput(
            "recipe.package", f"{package!r} is no package.", "Write npm:NAME[@VERSION] or pypi:NAME[==VERSION]."
        )
    kind, name, version = named[1] or named[4], named[2] or named[5], named[3] or named[6] or ""
    with tempfile.TemporaryDirectory(prefix="percall-recipe-") as folder:
        archive = _download(kind, name, version, Path(folder))
        return of_sources(kind, name, _version_of(kind, name, archive.name), list(sources_of(archive)))


def of_sources(kind: str, name: str, version: str, sources: list[str]) -> Facts:
    """The facts of a package's source texts. Pure."""
    variables: Counter[str] = Counter()
    hosts: Counter[str] = Counter()
    for source in sources:
        variables.update(next(filter(None, found)) for found in _VARIABLE.findall(source))
        hosts.update(host for host in _HOST.findall(source) if not _NOT_AN_API.search(host))
    words = {word for word in re.split(r"[^a-z0-9]+", name.lower()) if len(word) > 2 and word not in {"mcp", "server"}}  # noqa: PLR2004

    def likely(text: str, count: int) -> tuple[int, int, str]:
        own = any(word in text.lower() for word in words)
        return (0 if own else 1, -count - (100 if text.startswith("api.") else 0), text)

    def ranked(counted: Counter[str], wanted: re.Pattern[str] | None = None) -> tuple[str, ...]:
        fits = [(likely(text, count), text) for text, count in counted.items() if not wanted or wanted.search(text)]
        return tuple(text for _, text in sorted(fits))

    return Facts(kind, name, version, ranked(variables, _KEY), ranked(variables, _BASE_URL), ranked(hosts))


def _download(kind: str, name: str, version: str, folder: Path) -> Path:
    if kind == "npm":
        wanted = f"{name}@{version}" if version else name
        command = [
            which("npm") or "npm",
            "pack",
            "--silent",
            "--ignore-scripts",
            "--pack-destination",
            str(folder),
            wanted,
        ]
    else:
        wanted = f"{name}=={version}" if version else name
        pip = [sys.executable, "-m", "pip"] if _has_pip() else [which("pip3") or which("pip") or "pip"]
        command = [*pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), wanted]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        raise Unavailable("recipe.download", f"{command[0]} is not here, or did not answer.") from None
    found = [path for path in folder.iterdir() if path.name.endswith((".tgz", ".whl"))]
    if done.returncode or not found:
        raise Unavailable("recipe.download", f"There is no package {wanted!r} to be had from {kind}.")
    return found[0]


def _has_pip() -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - only here

    return find_spec("pip") is not None


def _version_of(kind: str, name: str, archive: str) -> str:
    if kind == "npm":
        return archive.removeprefix(name.lstrip("@").replace("/", "-") + "-").removesuffix(".tgz")
    return archive.split("-")[1]


def sources_of(archive: Path) -> Iterator[str]:
    """The source texts in an archive, read in memory: no path of it is ever written."""
    left = _MOST_BYTES
    for name, size, read in _members(archive):
        if Path(name).suffix not in _SOURCES or _ASIDE.search(name) or size > left:
            continue
        left -= size
        yield read().decode("utf-8", "replace")


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                yield info.filename, info.file_size, partial(wheel.read, info)
        return
    with tarfile.open(archive) as bundle:
        for member in bundle:
            if member.isfile() and (stream := bundle.extractfile(member)):
                yield member.name, member.size, stream.read

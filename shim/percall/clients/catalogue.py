"""The clients that Percall knows: which files they read, where in them the servers stand, and in which shape.

Facts, not behaviour; each was read in the client's own documentation or source. A place may hold a glob.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

JSONC, TOML, YAML, XML = "jsonc", "toml", "yaml", "xml"
_FORMS = {".json": JSONC, ".jsonc": JSONC, ".toml": TOML, ".yaml": YAML, ".yml": YAML, ".xml": XML}
_COPY = re.compile(r"(?:\.(?:bak|backup|old|orig|save)[\w.:-]*|~)$")
"""How copies end that clients, editors and people make beside a file."""
_KEPT_AS = re.compile(r"(?:^|(?<=/))(?:private_|readonly_|create_)*dot_")
"""How chezmoi writes the dot of a dotfile."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The names of a server's members in one client's format, empty where the format has none.

    `command_list`: the command and its arguments are one list (`command`), as in opencode. `listed`: the servers are a
    list of objects that carry their `name`, as in Continue. `extra` is what an entry of this format must say besides.
    A dot in `headers` leads into an inner object.
    """

    command: str = "command"
    arguments: str = "args"
    environment: str = "env"
    urls: tuple[str, ...] = ("url",)
    headers: tuple[str, ...] = ("headers",)
    command_list: bool = False
    listed: bool = False
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """A client. `user` and `project` are places: globs with forward slashes, the former from the home folder.

    `member` is where the servers stand in the file; `per_project` where each project of a user's file has servers of
    its own (`*` stands for the project). `rewritten`: `percall adopt` can edit it; the others are scanned and
    explained. `backups` are copies that the client itself makes. `note` is what a person has to know after a change.
    """

    name: str
    title: str
    user: tuple[str, ...]
    project: tuple[str, ...] = ()
    member: tuple[str, ...] = ("mcpServers",)
    per_project: tuple[str, ...] = ()
    form: str = JSONC
    shape: Shape = Shape()
    rewritten: bool = False
    backups: tuple[str, ...] = ()
    note: str = "Restart it, or reload its MCP servers."

    def form_of(self, file: Path) -> str:
        """In which form one of its files is written: as its name ends, where that says it."""
        return _FORMS.get(file.suffix.lower(), self.form)


def _code(*relative: str) -> tuple[str, ...]:
    """Files under the user folder of VS Code and of its builds."""
    return tuple(f"{{config}}/{build}/User/{file}" for build in _CODE_BUILDS for file in relative)


_ZED = {"win32": "{config}/Zed/settings.json", "linux": "{xdg}/zed/settings.json"}.get(
    sys.platform, ".config/zed/settings.json"
)
_CODE_BUILDS = ("Code", "Code - Insiders", "VSCodium")
_HISTORIES = (*_CODE_BUILDS, "Cursor", "Windsurf", "Kiro")

CLIENTS: tuple[Client, ...] = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        (
            "{config}/Claude/claude_desktop_config.json",
            "{local}/Packages/Claude_*/LocalCache/Roaming/Claude/claude_desktop_config.json",
        ),
        rewritten=True,
        note="Quit Claude Desktop and start it again.",
    ),
    Client(
        "claude-code",
        "Claude Code",
        ("{claude}/.claude.json",),
        (".mcp.json",),
        per_project=("projects", "*", "mcpServers"),
        rewritten=True,
        backups=("{claude-folder}/backups/.claude.json.backup*",),
        note="Start a new Claude Code session.",
    ),
    Client("cursor", "Cursor", (".cursor/mcp.json",), (".cursor/mcp.json",), rewritten=True),
    Client(
        "vscode",
        "VS Code",
        _code("mcp.json", "profiles/*/mcp.json"),
        (".vscode/mcp.json",),
        member=("servers",),
        shape=Shape(extra=(("type", "stdio"),)),
        rewritten=True,
    ),
    Client(
        "windsurf",
        "Windsurf",
        (".codeium/windsurf/mcp_config.json",),
        shape=Shape(urls=("serverUrl", "url")),
        rewritten=True,
    ),
    Client(
        "zed",
        "Zed",
        (_ZED,),
        (".zed/settings.json",),
        member=("context_servers",),
        rewritten=True,
    ),
    Client(
        "codex",
        "Codex",
        ("{codex}/config.toml",),
        (".codex/config.toml",),
        member=("mcp_servers",),
        form=TOML,
        shape=Shape(headers=("http_headers",)),
        rewritten=True,
    ),
    Client(
        "gemini-cli",
        "Gemini CLI",
        (".gemini/settings.json",),
        (".gemini/settings.json",),
        shape=Shape(urls=("httpUrl", "url")),
        rewritten=True,
    ),
    Client(
        "opencode",
        "opencode",
        ("{xdg}/opencode/opencode.json", "{xdg}/opencode/opencode.jsonc"),
        ("opencode.json", "opencode.jsonc"),
        member=("mcp",),
        shape=Shape(arguments="", environment="environment", command_list=True, extra=(("type", "local"),)),
        rewritten=True,
    ),
    Client(
        "cline",
        "Cline",
        (
            *_code("globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"),
            ".cline/data/settings/cline_mcp_settings.json",
        ),
    ),
    Client(
        "roo",
        "Roo Code",
        _code("globalStorage/rooveterinaryinc.roo-cline/settings/*mcp_settings.json"),
        (".roo/mcp.json",),
    ),
    Client(
        "continue",
        "Continue",
        (".continue/config.yaml", ".continue/mcpServers/*.yaml", ".continue/mcpServers/*.json"),
        (".continue/mcpServers/*.yaml", ".continue/mcpServers/*.json"),
        form=YAML,
        shape=Shape(listed=True),
    ),
    Client(
        "goose",
        "Goose",
        (".config/goose/config.yaml", "{config}/Block/goose/config/config.yaml"),
        member=("extensions",),
        form=YAML,
        shape=Shape(command="cmd", environment="envs", urls=("uri", "url")),
    ),
    Client("kiro", "Kiro", (".kiro/settings/mcp.json",), (".kiro/settings/mcp.json",)),
    Client("lm-studio", "LM Studio", (".lmstudio/mcp.json",)),
    Client(
        "jetbrains",
        "JetBrains AI Assistant",
        (".ai/mcp/mcp.json", "{config}/JetBrains/*/options/llm.mcpServers.xml"),
        (".ai/mcp/mcp.json", ".idea/workspace.xml"),
    ),
    Client("junie", "JetBrains Junie", (".junie/mcp/mcp.json",), (".junie/mcp/mcp.json",)),
    Client(
        "copilot-jetbrains",
        "GitHub Copilot in JetBrains",
        (
            ".config/github-copilot/intellij/mcp.json",
            "{config}/github-copilot/intellij/mcp.json",
            "{local}/github-copilot/intellij/mcp.json",
        ),
        member=("servers",),
        shape=Shape(headers=("requestInit.headers", "headers")),
    ),
    Client("copilot-cli", "GitHub Copilot CLI", (".copilot/mcp-config.json",)),
    Client(
        "amp",
        "Amp",
        (".config/amp/settings.json", ".config/amp/settings.jsonc", *_code("settings.json")),
        (".amp/settings.json", ".vscode/settings.json"),
        member=("amp.mcpServers",),
    ),
    Client(
        "vscode-settings",
        "VS Code, in its settings",
        _code("settings.json"),
        (".vscode/settings.json",),
        member=("mcp", "servers"),
    ),
    Client("warp", "Warp", (".warp/.mcp.json",)),
)


def client(name: str) -> Client | None:
    """The client of a name."""
    return next((one for one in CLIENTS if one.name == name), None)


def user_files(one: Client, home: Path) -> list[Path]:
    """The user's files of a client that are there."""
    return [path for place in one.user for path in _matches(place, home)]


def project_files(one: Client, folder: Path) -> list[Path]:
    """A project's files of a client that are there."""
    return [path for place in one.project for path in _matches(place, folder)]


def user_place(one: Client, home: Path) -> Path:
    """The user's file of a client: the one that is there, else where its folder is, else where it would be."""
    there = user_files(one, home)
    if there:
        return there[0]
    named = [_filled(place, home) for place in one.user if "*" not in place]
    return next((path for path in named if path.parent.is_dir()), named[0])


def project_place(one: Client, folder: Path) -> Path | None:
    """A project's file of a client: the one that is there, else where it would be; None where it has none."""
    there = project_files(one, folder)
    named = [folder / place for place in one.project if "*" not in place]
    return next(iter((*there, *named)), None)


def backup_files(one: Client, home: Path) -> list[Path]:
    """The copies of its own config that a client keeps, or that somebody made beside it."""
    beside = (path for place in one.user for path in _matches(f"{place}?*", home) if _COPY.search(path.name))
    return sorted({*beside, *(path for place in one.backups for path in _matches(place, home))})


def history_folders(home: Path) -> list[Path]:
    """Where VS Code and the editors built on it keep each file's earlier versions, one folder a file."""
    return [path for build in _HISTORIES for path in _found(f"{{config}}/{build}/User/History/*", home)]


def clients_of(path: str) -> list[Client]:
    """The clients that read a file of this name, wherever its project, or somebody's home folder, begins."""
    named = _KEPT_AS.sub(".", path.replace("\\", "/").removesuffix(".tmpl"))
    return [
        one
        for one in CLIENTS
        if any(
            fnmatch(named, place) or fnmatch(named, f"*/{place}") for place in (*one.project, *map(_inner, one.user))
        )
    ]


def original(path: str) -> str:
    """The file's name that a copy was made of; empty where it is none."""
    name = PurePosixPath(path).name
    stem = _COPY.sub("", name)
    return path[: len(path) - len(name) + len(stem)] if stem and stem != name else ""


def _inner(place: str) -> str:
    """A user's place without the folder that differs between systems."""
    return place.replace("{codex}", ".codex").replace("{xdg}", ".config").rpartition("}/")[2]


def _matches(place: str, folder: Path) -> list[Path]:
    try:
        return [found for found in _found(place, folder) if found.is_file()]
    except OSError:  # a path that no file has, such as too long a one that a client's file names as a project's
        return []


def _found(place: str, folder: Path) -> list[Path]:
    base, pattern = _split(place, folder)
    return sorted(base.glob(pattern))


def _filled(place: str, folder: Path) -> Path:
    base, rest = _split(place, folder)
    return base / rest


def _split(place: str, folder: Path) -> tuple[Path, str]:
    """The folder that a place is in, and the rest of it, which may hold a glob."""
    name, named, rest = place.partition("/")
    base = _FOLDERS.get(name)
    return (Path(base(folder)), rest) if named and base else (folder, place)


def _config_folder(home: Path) -> str:
    """Where desktop applications keep their settings on this system."""
    if sys.platform == "darwin":
        return str(home / "Library" / "Application Support")
    if sys.platform == "win32":
        return os.environ.get("APPDATA") or str(home / "AppData" / "Roaming")
    return _xdg_folder(home)


def _local_folder(home: Path) -> str:
    return os.environ.get("LOCALAPPDATA") or str(home / "AppData" / "Local")


def _codex_folder(home: Path) -> str:
    return os.environ.get("CODEX_HOME") or str(home / ".codex")


def _xdg_folder(home: Path) -> str:
    """Where programs that follow the XDG base directories on every system keep their settings."""
    return os.environ.get("XDG_CONFIG_HOME") or str(home / ".config")


def _claude_home(home: Path) -> str:
    """Where Claude Code's own file is: in its folder only where that was moved."""
    return os.environ.get("CLAUDE_CONFIG_DIR") or str(home)


def _claude_folder(home: Path) -> str:
    return os.environ.get("CLAUDE_CONFIG_DIR") or str(home / ".claude")


_FOLDERS: dict[str, Callable[[Path], str]] = {
    "{config}": _config_folder,
    "{local}": _local_folder,
    "{codex}": _codex_folder,
    "{xdg}": _xdg_folder,
    "{claude}": _claude_home,
    "{claude-folder}": _claude_folder,
}

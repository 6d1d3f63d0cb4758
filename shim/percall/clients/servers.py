"""The MCP servers that a client's file names, and what of each is a pasted secret."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from percall.clients import documents, files, literal_secrets
from percall.clients.catalogue import user_files
from percall.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from percall.clients.catalogue import Client
    from percall.clients.jsonc import Step

_COMMANDS = frozenset({"percall", "percall.exe"})
_LAUNCHERS = frozenset({"uvx", "pipx", "uv", "python", "python3"})


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a pasted secret stands: `kind` is env, args, header, url or setting; `name` what stands beside it, never
    the value.

    `value` is what is pasted, whole; the secret itself may be a part of it.
    """

    kind: str
    name: str
    index: int = -1
    value: str = field(default="", repr=False)  # SECRET, never log


@dataclass(frozen=True, slots=True)
class ConfiguredServer:
    """One server of one client's file. `path` leads to it; `project` is the project that it is for, empty for all.

    `percall` is the name that it has at Percall, where its command is Percall's already, for the agent named `agent`;
    `launched` what that runs in the place of the broker's command.
    """

    client: Client
    file: Path
    path: tuple[Step, ...]
    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    secrets: tuple[Secret, ...]
    project: str = ""
    percall: str = ""
    agent: str = ""
    launched: tuple[str, ...] = ()
    disabled: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether the file belongs to a project, and so perhaps to other people too."""
        return self.file not in user_files(self.client, Path.home())


def read_text(file: Path) -> str:
    """A file's text, its line ends untouched. Raises UsageError."""
    data, _ = files.read(file)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("config.read", f"{file} is not UTF-8 text.") from None


def in_file(client: Client, file: Path) -> list[ConfiguredServer]:
    """The servers of a file. Raises UsageError when it cannot be read as what it should be."""
    with naming(file):
        return in_text(client, file, read_text(file))


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Around what reads a file's text: its UsageError is raised with the file's name, and what to do."""
    try:
        yield
    except UsageError as error:
        done = {"config.syntax": "read", "config.shape": "edited"}.get(error.code)
        if done is None or str(file) in error.message:
            raise
        next_step = error.next_step or "Mend it, then run this again."
        raise UsageError(error.code, f"{file} cannot be {done}. {error.message}", next_step) from None


def in_text(client: Client, file: Path, text: str) -> list[ConfiguredServer]:
    """The servers of a file's text. Raises UsageError."""
    data = documents.read(text, client.form_of(file))
    found = [
        _server(client, file, path, name, entry, "") for path, name, entry in _entries(client, data, client.member)
    ]
    for project, path in _projects(client, data):
        found += [
            _server(client, file, (*path, *inner), name, entry, project)
            for inner, name, entry in _entries(client, documents.at(data, path), ())
        ]
    return found


def _projects(client: Client, data: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not client.per_project:
        return
    base, _, member = client.per_project
    projects = data.get(base) if isinstance(data, dict) else None
    if isinstance(projects, dict):
        for project in projects:
            yield str(project), (base, str(project), member)


def _entries(
    client: Client, data: Any, member: tuple[str, ...]
) -> Iterator[tuple[tuple[Step, ...], str, dict[str, Any]]]:
    servers = documents.at(data, member)
    if client.shape.listed and isinstance(servers, list):
        for index, entry in enumerate(servers):
            if isinstance(entry, dict):
                yield (*member, index), str(entry.get("name", index)), entry
    elif isinstance(servers, dict):
        for name, entry in servers.items():
            if isinstance(entry, dict):
                yield (*member, name), name, entry


def _server(
    client: Client, file: Path, path: tuple[Step, ...], name: str, entry: dict[str, Any], project: str
) -> ConfiguredServer:
    command = _command(client, entry)
    environment = _environment(client, entry)
    url = next((str(entry[key]) for key in client.shape.urls if isinstance(entry.get(key), str)), "")
    headers = {
        name: text for key in client.shape.headers for name, text in _texts(documents.at(entry, key.split("."))).items()
    }
    percall, agent, launched = _at_percall(command)
    return ConfiguredServer(
        client=client,
        file=file,
        path=path,
        name=name,
        command=command,
        environment=environment,
        url=url,
        headers=headers,
        secrets=(*_secrets(command, environment, url, headers), *_secret_settings(entry)),
        project=project,
        percall=percall,
        agent=agent,
        launched=launched,
        disabled=entry.get("disabled") is True or entry.get("enabled") is False,
    )


def _command(client: Client, entry: dict[str, Any]) -> tuple[str, ...]:
    written = entry.get(client.shape.command)
    if isinstance(written, dict):  # Zed's older form
        return (str(written.get("path", "")), *_list(written.get("args")))
    if client.shape.command_list:
        return tuple(_list(written))
    return (written, *_list(entry.get(client.shape.arguments))) if isinstance(written, str) else ()


def _environment(client: Client, entry: dict[str, Any]) -> dict[str, str]:
    command = entry.get(client.shape.command)
    within = command.get("env") if isinstance(command, dict) else None  # Zed's older form
    return {**_texts(within), **_texts(entry.get(client.shape.environment))}


def _list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _texts(value: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def _secrets(
    command: tuple[str, ...], environment: dict[str, str], url: str, headers: dict[str, str]
) -> Iterator[Secret]:
    for name, value in environment.items():
        if literal_secrets.is_secret(name, value):
            yield Secret("env", name, value=value)
    for index, name in literal_secrets.places_in_arguments(list(command[1:])):
        yield Secret("args", name, index, command[1 + index])
    for name, value in headers.items():
        if literal_secrets.is_secret_header(name, value):
            yield Secret("header", name, value=value)
    if url and literal_secrets.is_secret_url(url):
        yield Secret("url", "url", value=url)


def _secret_settings(entry: dict[str, Any]) -> Iterator[Secret]:
    """What an extension of the client's that launches the server itself is told, as Zed's are."""
    for name, value in _texts(entry.get("settings")).items():
        if literal_secrets.is_secret(name, value):
            yield Secret("setting", name, value=value)


def _at_percall(command: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    """The server, the agent and the command in a `percall run [--agent NAME] SERVER [-- COMMAND]`, also where a
    launcher stands in front of it.
    """
    words = list(command)
    while words and PurePath(re.sub(r".*\\", "", words[0])).name.lower() in _LAUNCHERS | {"-m", "run", "tool"}:
        words.pop(0)
    if len(words) < 2 or PurePath(re.sub(r".*\\", "", words[0])).name.lower() not in _COMMANDS or words[1] != "run":  # noqa: PLR2004
        return "", "", ()
    server, agent, rest = "", "", words[2:]
    while rest:
        word = rest.pop(0)
        option, given, value = word.partition("=")
        if option == "--agent":
            agent = value if given or not rest else rest.pop(0)
        elif server:
            return server, agent, tuple(rest if word == "--" else (word, *rest))
        elif not word.startswith("-"):
            server = word
    return server, agent, ()

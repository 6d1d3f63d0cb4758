"""A server put into each client's file, and taken out: what is written, and that every other character stays."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from percall.adoption import placing
from percall.adoption.placing import ADDED, CHANGED, PRESENT, Place
from percall.clients import jsonc
from percall.clients.catalogue import CLIENTS, client
from percall.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from percall.clients.servers import ConfiguredServer

OURS = '{"mcpServers": {"github": {"command": "percall", "args": ["run", "github"]}}}'
COMMAND = ("/opt/percall", "run", "--agent", "a", "github")
HOME = {"PERCALL_HOME": "/srv/percall"}
OTHER = '"other": {"command": "npx", "args": ["other"]} // mine'
TEXTS = {
    "claude-desktop": '{\n  "mcpServers": {\n    %s\n  }\n}\n',
    "claude-code": '{\n  "numStartups": 3,\n  "mcpServers": {\n    %s\n  }\n}\n',
    "cursor": '{\r\n\t"mcpServers": {\r\n\t\t%s\r\n\t}\r\n}\r\n',
    "vscode": '{\n  "servers": {\n    "other": {"command": "npx"}, // mine\n  },\n  "inputs": [],\n}\n',
    "windsurf": '{"mcpServers": {"other": {"command": "npx"} /* mine */}}',
    "zed": '// Zed\n{\n  "theme": "One",\n  "context_servers": {\n    %s\n  }\n}\n',
    "codex": 'model = "x" # mine\n\n[mcp_servers.other]\ncommand = "npx"\nargs = ["other"]\n',
    "gemini-cli": '{\n  "mcpServers": {\n    %s\n  }\n}\n',
    "opencode": '{\n  "mcp": {\n    "other": {"type": "local", "command": ["npx", "other"]} // mine\n  }\n}\n',
}
WRITTEN: dict[str, dict[str, Any]] = {
    "vscode": {"type": "stdio", "command": COMMAND[0], "args": list(COMMAND[1:]), "env": HOME},
    "opencode": {"type": "local", "command": list(COMMAND), "environment": HOME},
}

MOVED: dict[str, tuple[str, dict[str, Any]]] = {
    "cursor": (
        """{"mcpServers": {"github": {"command": "uvx", "args": ["percall", "run", "github"], "envFile": ".env",
        "env": {"LEVEL": "debug", /* mine */ "PERCALL_HOME": "/old"}}}}""",
        {"command": COMMAND[0], "args": list(COMMAND[1:]), "envFile": ".env", "env": {"LEVEL": "debug", **HOME}},
    ),
    "opencode": (
        """{"mcp": {"github": {"type": "local", "command": ["/gone/percall", "run", "--agent=a", "github"]}}}""",
        WRITTEN["opencode"],
    ),
    "codex": (
        """[mcp_servers.github]\ncommand = "/gone/percall"\nargs = ["run", "github"]\nenv.LEVEL = "debug" # mine\n""",
        {"command": COMMAND[0], "args": list(COMMAND[1:]), "env": {"LEVEL": "debug", **HOME}},
    ),
    "zed": (
        """{"context_servers": {"github": {"command": {"path": "/gone/percall", "args": ["run", "github"],
        "env": {"LEVEL": "debug"}}}}}""",
        {"command": {"path": COMMAND[0], "args": list(COMMAND[1:]), "env": {"LEVEL": "debug", **HOME}}},
    ),
}


def place_in(folder: Path, name: str, text: str | None, entry: str = "github") -> Place:
    one = client(name)
    assert one is not None
    path = folder / ("config.toml" if name == "codex" else "config.json")
    if text is not None:
        path.write_bytes(text.replace("%s", OTHER).encode())
    return Place(one, path, entry)


def written_in(place: Place) -> dict[str, Any]:
    text = place.file.read_bytes().decode()
    found = tomllib.loads(text) if place.client.form == "toml" else jsonc.parse(text).value
    for step in place.client.member:
        found = found.get(step, {})
    return dict(found)


def test_every_client_that_is_written_is_tried() -> None:
    assert set(TEXTS) == {one.name for one in CLIENTS if one.rewritten}


@pytest.mark.parametrize("name", TEXTS)
def test_a_server_is_put_in_the_clients_own_shape_and_taken_out_without_a_trace(name: str, tmp_path: Path) -> None:
    place = place_in(tmp_path, name, TEXTS[name])
    before = place.file.read_bytes()

    assert placing.put(place, "github", COMMAND, HOME, dry_run=True).state == ADDED
    assert place.file.read_bytes() == before
    assert placing.put(place, "github", COMMAND, HOME, dry_run=False).state == ADDED

    plain = {"command": COMMAND[0], "args": list(COMMAND[1:]), "env": HOME}
    assert list(written_in(place)) == ["other", "github"]
    assert written_in(place)["github"] == WRITTEN.get(name, plain)
    after = place.file.read_bytes()
    assert placing.put(place, "github", COMMAND, HOME, dry_run=False).state == PRESENT
    assert place.file.read_bytes() == after
    assert placing.put(place, "github", ("/new/percall", *COMMAND[1:]), HOME, dry_run=False).state == CHANGED

    assert placing.take_out(place.client, place.file, lambda one: one.name == "github", dry_run=False) == ["github"]
    if name in {"windsurf", "codex"}:  # an object on one line, or a table: the line that came may stay, empty
        assert b"".join(place.file.read_bytes().split()) == b"".join(before.split())
    else:
        assert place.file.read_bytes() == before


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", [None, ""])
def test_a_file_that_is_not_there_or_empty_is_made(name: str, text: str | None, tmp_path: Path) -> None:
    place = place_in(tmp_path / "new" if text is None else tmp_path, name, text)
    assert placing.put(place, "github", COMMAND, {}, dry_run=False).state == ADDED
    assert list(written_in(place)) == ["github"]
    assert [path.name for path in place.file.parent.iterdir()] == [place.file.name]
    assert placing.take_out(place.client, place.file, lambda one: one.name == "github", dry_run=False) == ["github"]
    assert list(written_in(place)) == []
    assert placing.put(place, "github", COMMAND, HOME, dry_run=False).state == ADDED


@pytest.mark.parametrize("text", ["# mine\n", "# mine\r\n\r\n", 'model = "x" # mine\n', '[tui] # mine\ntheme = "a"\n'])
@pytest.mark.parametrize("environment", [{}, HOME])
def test_the_only_server_of_a_toml_file_comes_and_goes(text: str, environment: dict[str, str], tmp_path: Path) -> None:
    """The table that all servers are in is written nowhere then, and goes with the last of them."""
    place = place_in(tmp_path, "codex", text)
    assert placing.put(place, "github", COMMAND, environment, dry_run=False).state == ADDED
    assert placing.take_out(place.client, place.file, lambda one: one.name == "github", dry_run=False) == ["github"]
    left = place.file.read_bytes().decode()
    assert tomllib.loads(left).get("mcp_servers", {}) == {}
    assert "# mine" in left
    assert tomllib.loads(left).items() >= tomllib.loads(text).items()


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("cursor", "{ broken", "config.syntax"),
        ("cursor", '{"mcpServers": ["a", "list"]}', "config.shape"),
        ("cursor", '["no", "object"]', "config.shape"),
        ("cursor", '{"mcpServers": {"github": "odd"}}', "add.taken"),
        ("cursor", '{"mcpServers": {"github": {"command": "npx", "args": ["server"]}}}', "add.taken"),
        ("cursor", '{"mcpServers": {"github": {"command": "percall", "args": ["run", "gitlab"]}}}', "add.taken"),
        ("codex", 'mcp_servers = "odd"', "config.shape"),
        ("codex", "[mcp_servers", "config.syntax"),
    ],
)
def test_a_config_that_is_not_what_it_should_be_is_left_alone(name: str, text: str, code: str, tmp_path: Path) -> None:
    place = place_in(tmp_path, name, text)
    with pytest.raises(UsageError) as refused:
        placing.put(place, "github", COMMAND, {}, dry_run=False)
    assert refused.value.code == code
    assert str(place.file) in refused.value.message
    assert refused.value.next_step
    assert place.file.read_text() == text


@pytest.mark.parametrize(("name", "text"), [("cursor", "{ broken"), ("codex", "[mcp_servers")])
def test_a_broken_config_is_named_by_whatever_looks_into_it(name: str, text: str, tmp_path: Path) -> None:
    place = place_in(tmp_path, name, text)
    for look in (
        lambda: placing.there(place, "github"),
        lambda: placing.take_out(place.client, place.file, lambda _: True, dry_run=True),
    ):
        with pytest.raises(UsageError) as refused:
            look()
        assert refused.value.message.startswith(f"{place.file} cannot be read. ")
        assert refused.value.next_step == "Mend it, then run this again."


@pytest.mark.parametrize("name", MOVED)
def test_a_command_that_moved_is_mended_and_what_the_person_has_put_there_stays(name: str, tmp_path: Path) -> None:
    text, wanted = MOVED[name]
    place = place_in(tmp_path, name, text)
    tried = placing.put(place, "github", COMMAND, HOME, dry_run=True)
    assert place.file.read_text() == text
    assert tried.state == CHANGED
    assert any(line.startswith("+ ") and "/opt/percall" in line for line in tried.difference)
    assert placing.put(place, "github", COMMAND, HOME, dry_run=False) == tried
    assert written_in(place)["github"] == wanted
    assert ("mine" in text) == ("mine" in place.file.read_text())
    assert placing.put(place, "github", COMMAND, HOME, dry_run=False).state == PRESENT


def test_a_home_that_is_not_this_terminals_goes(tmp_path: Path) -> None:
    """The grant that was found is of the home that this terminal has."""
    text = (
        '{"mcpServers": {"github": {"command": "percall", "args": ["run", "github"], "env": {"PERCALL_HOME": "/x"}}}}'
    )
    place = place_in(tmp_path, "cursor", text)
    placing.put(place, "github", ("percall", "run", "github"), {}, dry_run=False)
    assert written_in(place)["github"]["env"] == {}


def test_a_client_that_writes_meanwhile_loses_nothing_and_the_edit_is_made_again(tmp_path: Path) -> None:
    place = place_in(tmp_path, "claude-code", OURS)
    looks: list[str] = []

    def chosen(one: ConfiguredServer) -> bool:
        looks.append(one.name)
        if len(looks) == 1:  # the client writes between the first look and the replacement
            place.file.write_text(OURS.replace("{", '{"numStartups": 4, ', 1))
        return True

    assert placing.take_out(place.client, place.file, chosen, dry_run=False) == ["github"]
    assert looks == ["github", "github"]
    assert jsonc.parse(place.file.read_text()).value == {"numStartups": 4, "mcpServers": {}}


def test_a_client_that_does_not_stop_writing_is_left_alone(tmp_path: Path) -> None:
    place = place_in(tmp_path, "cursor", OURS)

    def chosen(_: ConfiguredServer) -> bool:
        place.file.write_text(place.file.read_text() + " ")
        return True

    with pytest.raises(UsageError) as refused:
        placing.take_out(place.client, place.file, chosen, dry_run=False)
    assert refused.value.code == "config.changed"
    assert list(written_in(place)) == ["github"]


def test_a_read_only_file_is_named(tmp_path: Path) -> None:
    place = place_in(tmp_path, "cursor", "{}")
    place.file.chmod(0o400)
    with pytest.raises(UsageError, match="read-only"):
        placing.put(place, "github", COMMAND, {}, dry_run=False)
    assert place.file.read_text() == "{}"

"""`percall adopt` and `percall undo`, as a person with pasted keys sees them, with a real broker and real servers."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import Laptop, keyed_entry, wait_for
from harness.signing import SigningLaptop
from harness.terminal import at_a_terminal
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.processes import Broker
    from harness.terminal import Process

PASSPHRASE = "four words that differ"
MOST_QUESTIONS = 10
"""More than any of these commands asks."""
PASTED = {"command": "keyed-server", "args": ["--quiet"], "env": {"API_KEY": CANARY, "API_URL": "https://api.example"}}
CURSOR = """{
  // my servers
  "mcpServers": {
    "keyed": { // the one that I use
      "command": "keyed-server",
      "args": ["--quiet"],
      "env": {
        "API_KEY": "%s" // of my own account
      },
      "alwaysAllow": ["get_item"] // approved
    },
    "other": {"command": "uvx", "args": ["mcp-server-time"]}
  }
}
"""
CODEX = """# mine
model = "x"

[mcp_servers.keyed]
command = "keyed-server" # this
startup_timeout_sec = 20

[mcp_servers.keyed.env]
API_KEY = "%s"
"""


@dataclass
class Person:
    """Somebody with a passphrase, a home folder with their clients' configs, and a terminal."""

    laptop: Laptop
    name: str
    said: str = field(default="", init=False)

    def file(self, relative: str, text: str) -> Path:
        path = self.laptop.home / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def at_terminal(self, *arguments: str, folder: str = "", meanwhile: Callable[[Process], None] | None = None) -> int:
        """Types the passphrase whenever something is asked for; the exit code. `meanwhile` gets the process."""
        with contextlib.chdir(self.laptop.home / folder):
            self.said, code = at_a_terminal(
                "percall", arguments, self.laptop.environment, [PASSPHRASE] * MOST_QUESTIONS, meanwhile=meanwhile
            )
        return code

    def adopt(self, *arguments: str, code: int = 0) -> str:
        assert self.at_terminal("adopt", *arguments) == code, self.said
        assert CANARY not in self.said
        return self.said

    def given(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.laptop.run("key", "list", "--json").stdout.splitlines()]


@pytest.fixture(scope="module")
def own(broker: Broker, upstream: Upstream) -> str:
    """A server that takes personal keys alone, and recognises what people paste."""
    path = broker.folder / "own.toml"
    for name, program, tool in (("own", "keyed-server", "get_item"), ("broken", "broken-server", "create_item")):
        more = f'[recognise]\nlaunches = ["program:{program}"]\n[probe]\ntool = "{tool}"\narguments = "{{}}"\n'
        path.write_text(keyed_entry(upstream.url) + more)
        broker.administrator.administer("server", "add", name, "--from", str(path), "--no-key")
    return "own"


@pytest.fixture
def alice(broker: Broker, own: str, person: str, tmp_path: Path) -> Person:
    def invite() -> str:
        return str(broker.rows("person", "invite", person)[0]["invite"])

    SigningLaptop.of_person(broker.url, invite(), PASSPHRASE)  # which derives its key in a sixth of `login`'s time
    someone = Person(Laptop(tmp_path / "home"), person)
    assert someone.at_terminal("login", broker.url, "--invite", invite(), "--keyring", "file") == 0, someone.said
    grant(broker, own, person, "cursor")
    return someone


def test_who_has_not_logged_in_is_told_that_and_not_to_ask_for_a_server(tmp_path: Path) -> None:
    newcomer = Person(Laptop(tmp_path / "laptop"), "newcomer")
    newcomer.laptop.home.mkdir(exist_ok=True)
    assert "No pasted key" in newcomer.adopt("--yes")
    newcomer.file(".cursor/mcp.json", CURSOR % CANARY)
    assert "There is no login" in newcomer.adopt("--yes", code=2)


def test_a_name_that_nothing_has_is_refused_and_not_passed_over(alice: Person) -> None:
    alice.file(".cursor/mcp.json", CURSOR % CANARY)
    refused = alice.laptop.run("adopt", "curser", "keyed", "--dry-run", check=False)
    assert refused.returncode == 2
    assert "'curser'" in refused.stderr
    assert "[adopt.name]" in refused.stderr
    assert "cursor" in refused.stderr, "the clients that there are"
    alice.file(".cursor/mcp.json", '{"mcpServers": {"other": {"command": "npx"}}}')
    assert "No pasted key" in alice.laptop.run("adopt", "cursor", "other").stdout


def grant(broker: Broker, server: str, person: str, agent: str) -> None:
    scope = ("--server", server, "--tools", "get_*", "--expires", "1d", "--agent", agent)
    broker.administrator.administer("grant", "create", person, *scope)


def entry(path: Path, *steps: str) -> dict[str, Any]:
    from percall.clients import documents  # noqa: PLC0415 - reads what the clients read
    from percall.clients.catalogue import JSONC, TOML  # noqa: PLC0415

    data = documents.read(path.read_text(), TOML if path.suffix == ".toml" else JSONC)
    for step in steps:
        data = data[step]
    return dict(data)


def test_a_pasted_key_moves_to_the_broker_and_the_config_keeps_all_else(alice: Person, upstream: Upstream) -> None:
    path = alice.file(".cursor/mcp.json", CURSOR % CANARY)
    said = alice.adopt("--yes")
    assert '-     "API_KEY": "(key 1)"' in said
    assert "and get_item answered" in said
    assert "percall key rotate own" in said
    text = path.read_text()
    assert CANARY not in text
    assert "// my servers" in text
    assert "// of my own account" not in text, "as the page says: a comment inside what goes, goes with it"
    assert '"alwaysAllow": ["get_item"] // approved' in text
    assert '"other": {"command": "uvx", "args": ["mcp-server-time"]}' in text
    found = entry(path, "mcpServers", "keyed")
    assert found["args"] == ["run", "--agent", "cursor", "own"]
    assert found["command"].startswith("/")
    assert [key["server"] for key in alice.given()] == ["own"]
    # The config is now what a client starts.
    with alice.laptop.client("own", "--agent", "cursor") as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
    assert upstream.seen
    assert all(seen.key_was_real for seen in upstream.seen)
    # The key is in no file of the laptop's, but for the sealed ones.
    for file in alice.laptop.home.rglob("*"):
        assert not file.is_file() or CANARY.encode() not in file.read_bytes(), file


def test_undo_puts_the_very_same_text_back_and_says_when_the_key_was_rotated(alice: Person) -> None:
    before = CURSOR % CANARY
    path = alice.file(".cursor/mcp.json", before)
    alice.adopt("--yes")
    assert alice.laptop.run("undo", "--yes").stdout.count("ROTATED") == 0
    assert path.read_text() == before
    alice.adopt("cursor", "keyed", "--yes")
    assert alice.at_terminal("key", "remove", "own") == 0, alice.said
    assert "ROTATED" in alice.laptop.run("undo", "--yes", "cursor").stdout
    assert path.read_text() == before
    done = alice.laptop.run("undo", "--yes", check=False)
    assert "nothing to undo" in done.stderr


def test_undo_after_the_client_has_written_puts_this_entry_back_alone(alice: Person) -> None:
    path = alice.file(".cursor/mcp.json", CURSOR % CANARY)
    alice.adopt("--yes")
    path.write_text(path.read_text().replace('"mcp-server-time"', '"mcp-server-fetch"'))
    alice.laptop.run("undo", "--yes")
    assert entry(path, "mcpServers", "keyed")["env"] == {"API_KEY": CANARY}
    assert "mcp-server-fetch" in path.read_text()


def test_a_rotated_key_takes_its_backup_with_it(alice: Person) -> None:
    alice.file(".cursor/mcp.json", CURSOR % CANARY)
    alice.adopt("--yes")
    assert list(alice.laptop.home.glob("percall/adoptions/*.sealed"))
    assert alice.at_terminal("key", "rotate", "own") == 0, alice.said
    assert not list(alice.laptop.home.glob("percall/adoptions/*.sealed"))
    told = alice.laptop.run("undo", check=False)
    assert told.returncode == 2
    assert "erased" in told.stdout, "nothing is asked, since nothing can be undone"
    assert "The broker keeps" not in told.stdout


def test_a_key_that_the_broker_keeps_is_not_to_be_rotated_for_the_pasted_one(alice: Person) -> None:
    alice.file(".cursor/mcp.json", CURSOR % CANARY)
    alice.laptop.run("status")
    assert alice.at_terminal("key", "add", "own", "--agent", "cursor") == 0, alice.said
    said = alice.adopt("--yes", "--existing", "keep", "--skip-probe")
    assert "percall key rotate" not in said
    assert "own: the broker kept the key that it had. Revoke the pasted one at its issuer, if" in said


def test_a_backup_is_erased_after_a_week_whatever_command_is_run_then(alice: Person) -> None:
    alice.file(".cursor/mcp.json", CURSOR % CANARY)
    alice.adopt("--yes")
    folder = alice.laptop.home / "percall" / "adoptions"
    (record,) = folder.glob("*.json")
    told = json.loads(record.read_text())
    record.write_text(json.dumps({**told, "created_at": told["created_at"] - 8 * 86400}))
    assert list(folder.glob("*.sealed"))
    alice.laptop.run("status")
    assert not list(folder.glob("*.sealed"))
    assert "erased" in alice.laptop.run("undo", "--yes", check=False).stdout


def test_every_client_that_is_written_keeps_its_own_form(broker: Broker, own: str, alice: Person) -> None:
    files = {
        "claude-code": (".claude.json", json.dumps({"numStartups": 3, "mcpServers": {"keyed": PASTED}})),
        "vscode": (".config/Code/User/mcp.json", '{"servers": {"keyed": ' + json.dumps(PASTED) + "} /* mine */, }"),
        "zed": (".config/zed/settings.json", '// Zed\n{"context_servers": {"keyed": ' + json.dumps(PASTED) + "}}"),
        "codex": (
            ".codex/config.toml",
            CODEX % CANARY,
        ),
        "gemini-cli": (".gemini/settings.json", json.dumps({"mcpServers": {"keyed": PASTED}})),
        "opencode": (
            ".config/opencode/opencode.jsonc",
            json.dumps(
                {"mcp": {"keyed": {"type": "local", "command": ["keyed-server"], "environment": {"API_KEY": CANARY}}}}
            ),
        ),
    }
    for client, (file, text) in files.items():
        alice.file(file, text)
        grant(broker, own, alice.name, client)
    assert alice.said.count("passphrase") >= 1
    said = alice.adopt("--yes")
    assert said.count("Your Percall passphrase:") == 1
    run = ["run", "--agent"]
    for client, steps in (
        ("claude-code", ("mcpServers",)),
        ("vscode", ("servers",)),
        ("zed", ("context_servers",)),
        ("codex", ("mcp_servers",)),
        ("gemini-cli", ("mcpServers",)),
    ):
        path = alice.laptop.home / files[client][0]
        found = entry(path, *steps, "keyed")
        assert found["args"] == [*run, client, own]
        assert "env" not in found or CANARY not in found["env"].values()
        assert CANARY not in path.read_text()
    opencode = entry(alice.laptop.home / files["opencode"][0], "mcp", "keyed")
    assert opencode["command"][1:] == [*run, "opencode", own]
    codex = (alice.laptop.home / files["codex"][0]).read_text()
    assert "# mine" in codex
    assert "startup_timeout_sec = 20" in codex
    assert [key["version"] for key in alice.given()] == [1], "copies of one key are given once"
    alice.laptop.run("undo", "--yes")
    assert [(alice.laptop.home / file).read_text() for file, _ in files.values()] == [
        text for _, text in files.values()
    ]


def test_what_is_not_granted_recognised_or_in_its_place_is_left_with_a_reason(alice: Person) -> None:
    odd = {"command": "keyed-server", "env": {"OTHER_TOKEN": "tok_1234567890abcdefABCDEF"}}
    unknown = {"command": "npx", "args": ["some-server"], "env": {"API_TOKEN": "tok_1234567890abcdefABCDEF"}}
    cursor = alice.file(".cursor/mcp.json", json.dumps({"mcpServers": {"odd": odd, "unknown": unknown}}))
    alice.file(".gemini/settings.json", json.dumps({"mcpServers": {"keyed": PASTED}}))
    alice.file(".kiro/settings/mcp.json", json.dumps({"mcpServers": {"keyed": PASTED}}))
    alice.file(".codeium/windsurf/mcp_config.json", '{"mcpServers": {')
    before = cursor.read_text()
    alice.laptop.run("status")  # which shows what a script would not
    done = alice.laptop.run("adopt", "--yes", "--json", check=False)
    assert done.returncode == 2
    rows = {(row["client"], row["entry"]): row for row in map(json.loads, done.stdout.splitlines())}
    assert {key: row["error"]["code"] for key, row in rows.items()} == {
        ("cursor", "odd"): "adopt.place",
        ("cursor", "unknown"): "adopt.unknown",
        ("gemini-cli", "keyed"): "adopt.grant",
        ("kiro", "keyed"): "adopt.client",
    }
    assert "grant create" in rows["gemini-cli", "keyed"]["error"]["next_step"]
    assert "Windsurf" in done.stderr
    assert "Traceback" not in done.stderr
    assert cursor.read_text() == before


@pytest.mark.parametrize("wrong", ["world-writable", "read-only"])
def test_a_file_that_is_not_this_persons_alone_to_write_is_left(alice: Person, wrong: str) -> None:
    path = alice.file(".cursor/mcp.json", CURSOR % CANARY)
    path.chmod(0o646 if wrong == "world-writable" else 0o444)
    alice.laptop.run("status")  # which shows what a script would not
    done = alice.laptop.run("adopt", "--yes", "--json", check=False)
    assert json.loads(done.stdout)["error"]["code"] in {"config.exposed", "config.read_only"}
    assert path.read_text() == CURSOR % CANARY


def test_a_link_stays_a_link_and_a_shared_file_is_adopted_once(alice: Person) -> None:
    path = alice.file("dotfiles/mcp.json", CURSOR % CANARY)
    for link in (".cursor/mcp.json", ".codeium/windsurf/mcp_config.json"):
        (alice.laptop.home / link).parent.mkdir(parents=True)
        (alice.laptop.home / link).symlink_to(path)
    said = alice.adopt("--yes")
    assert "Windsurf reads this file too" in said
    assert (alice.laptop.home / ".cursor/mcp.json").is_symlink()
    assert entry(path, "mcpServers", "keyed")["args"] == ["run", "--agent", "cursor", "own"]


def test_a_shared_project_file_gets_the_bare_command(alice: Person) -> None:
    path = alice.file("project/.cursor/mcp.json", CURSOR % CANARY)
    assert alice.at_terminal("adopt", "--yes", folder="project") == 0, alice.said
    assert entry(path, "mcpServers", "keyed")["command"] == "percall"


def test_a_dry_run_and_a_no_change_nothing(alice: Person) -> None:
    path = alice.file(".cursor/mcp.json", CURSOR % CANARY)
    assert "(key 1)" in alice.laptop.run("adopt", "--dry-run").stdout
    done = alice.laptop.run("adopt", check=False)
    assert "adopt.no_terminal" in done.stderr
    assert path.read_text() == CURSOR % CANARY
    assert alice.given() == []


def test_a_new_command_that_does_not_work_leaves_the_config(broker: Broker, alice: Person) -> None:
    grant(broker, "broken", alice.name, "cursor")
    before = (CURSOR % CANARY).replace("keyed-server", "broken-server")
    path = alice.file(".cursor/mcp.json", before)
    said = alice.adopt("--yes", code=4)
    assert "left as it was" in said
    assert "The probe create_item failed" in said
    assert "To go on without that call: --skip-probe." in said
    assert "The broker has this key now, and your grants use it. To take it back: percall key remove broken" in said
    assert [key["server"] for key in alice.given()] == ["broken"]
    assert path.read_text() == before
    alice.adopt("--yes", "--skip-probe")


@pytest.mark.parametrize("step", ["begun", "given", "started", "written", "adopted"])
def test_killed_at_any_step_the_config_is_old_or_new_and_no_key_is_lost(alice: Person, step: str) -> None:
    before = CURSOR % CANARY
    path = alice.file(".cursor/mcp.json", before)
    adoptions = alice.laptop.home / "percall" / "adoptions"

    def records() -> list[dict[str, Any]]:
        return [json.loads(file.read_bytes()) for file in adoptions.glob("a_*.json")]

    conditions: dict[str, Callable[[Process], bool]] = {
        "begun": lambda _: bool(records()),
        "given": lambda _: any(record["key_version"] for record in records()),
        "started": has_child,
        "written": lambda _: path.read_text() != before,
        "adopted": lambda _: any(record["state"] == "adopted" for record in records()),
    }
    reached = conditions[step]

    def kill(process: Process) -> None:
        wait_for(lambda: reached(process), step)
        process.send_signal(signal.SIGKILL)

    alice.at_terminal("adopt", "--yes", meanwhile=kill)
    text = path.read_text()
    if text == before:
        alice.adopt("--yes")
    found = entry(path, "mcpServers", "keyed")
    assert found["args"] == ["run", "--agent", "cursor", "own"]
    assert [key["server"] for key in alice.given()] == ["own"]
    assert not [name for name in path.parent.iterdir() if name != path and CANARY in name.read_text()]
    alice.laptop.run("undo", "--yes")
    assert path.read_text() == before


def has_child(process: Process) -> bool:
    with contextlib.suppress(OSError):
        from pathlib import Path  # noqa: PLC0415

        return bool(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    return False

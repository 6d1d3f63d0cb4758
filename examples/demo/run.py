"""The whole story in a minute: a broker, a person, a real MCP server and client, and a key that stays where it is.

Everything is real: the commands that a user types, unmodified `mcp-atlassian` from PyPI, the `mcp` SDK's client. Only
Jira is a small one on loopback, because a demo should not need an account.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import venv
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.types import CallToolResult

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
COMMANDS = Path(sys.executable).parent
SERVER_ENVIRONMENT = ROOT / ".cache" / "mcp-atlassian"
LOCK = ROOT / "requirements" / "mcp-atlassian.txt"
COLOUR = sys.stdout.isatty()
LONGEST = 160


def say(text: str = "", style: str = "") -> None:
    """One line of the story."""
    print(f"\x1b[{style}m{text}\x1b[0m" if style and COLOUR else text, flush=True)


def chapter(text: str) -> None:
    """The start of a step."""
    say()
    say(f"── {text}", "1;36")


def typed(*words: str) -> None:
    """A command as a person would type it."""
    say("$ " + " ".join(words), "1")


def indented(text: str) -> None:
    """What a command printed."""
    for line in text.rstrip().splitlines():
        say("    " + line)


def install_server() -> Path:
    """The unmodified third-party server, in an environment of its own, from a lock of hashes."""
    command = SERVER_ENVIRONMENT / "bin" / "mcp-atlassian"
    ready = SERVER_ENVIRONMENT / ".ready"
    SERVER_ENVIRONMENT.parent.mkdir(exist_ok=True)
    with (SERVER_ENVIRONMENT.parent / "mcp-atlassian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests install the same
        if not ready.exists() or ready.read_text() != LOCK.read_text():
            say("Installing mcp-atlassian, unmodified, into .cache/ (once) …")
            venv.create(SERVER_ENVIRONMENT, clear=True)
            python = str(SERVER_ENVIRONMENT / "bin" / "python")
            install = [str(COMMANDS / "uv"), "pip", "install", "--quiet", "--python", python]
            subprocess.run([*install, "--require-hashes", "--no-deps", "-r", str(LOCK)], check=True)
            ready.write_text(LOCK.read_text())
    return command


class Story:
    """The folders and processes of one run of the demo."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        passphrase = folder / "passphrase"
        passphrase.touch(0o600)
        passphrase.write_text(secrets.token_urlsafe(24) + "\n")
        self.base = {"PATH": f"{COMMANDS}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
        self.broker_side = {**self.base, "PERCALL_BROKER_HOME": str(folder / "broker")}

    def laptop(self, name: str) -> dict[str, str]:
        """The environment of one person's laptop."""
        passphrase = str(self.folder / "passphrase")
        home = str(self.folder / name)
        return {**self.base, "PERCALL_HOME": home, "PERCALL_PASSPHRASE_FILE": passphrase}

    def run(self, environment: dict[str, str], *words: str, stdin: str = "") -> str:
        """A command that must succeed, and what it printed."""
        done = subprocess.run(
            [str(COMMANDS / words[0]), *words[1:]],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # no terminal: login would offer to set a passphrase there
        )
        if done.returncode:
            sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, environment: dict[str, str], *words: str, stdin: str = "") -> tuple[str, Callable[[], str]]:
        """A process that runs until the story ends: its first line, and what ends it and gives the rest."""
        log = self.stack.enter_context((self.folder / f"{Path(words[0]).name}.log").open("a"))
        process = subprocess.Popen(
            list(words), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        if process.stdin is None or process.stdout is None:
            raise RuntimeError
        process.stdin.write(stdin)
        process.stdin.close()
        output = process.stdout

        def end() -> str:
            process.terminate()
            return output.read()

        return output.readline().strip(), end


def text_of(result: CallToolResult) -> str:
    """The first text of a tool's answer, on one line, shortened."""
    text = " ".join(str(getattr(result.content[0], "text", "")).split())
    return ("✗ " if result.is_error else "✓ ") + (text if len(text) <= LONGEST else text[:LONGEST] + " …")


def laptop_side(needle: bytes, parent: int) -> tuple[int, int, int, int]:
    """Looks for the key in every process that runs for the client.

    Returns how many there are, how many let nobody look, the bytes searched, and how often the key was found.
    """
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    family = {pid for pid in parents if _descends(pid, parent, parents)} - {parent}
    closed = searched = found = 0
    for pid in family:
        if (
            b"broker" in Path(f"/proc/{pid}/cmdline").read_bytes()
            or b"upstream.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ):
            continue
        try:
            for data in _memory(pid):
                searched += len(data)
                found += data.count(needle)
        except PermissionError:
            closed += 1
    return len(family), closed, searched, found


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = parents.get(pid, 0)
    return False


def _memory(pid: int) -> list[bytes]:
    pieces = [Path(f"/proc/{pid}/environ").read_bytes(), Path(f"/proc/{pid}/cmdline").read_bytes()]
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in re.findall(
            r"^([0-9a-f]+)-([0-9a-f]+) r", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE
        ):
            try:
                memory.seek(int(start, 16))
                pieces.append(memory.read(int(end, 16) - int(start, 16)))
            except (OSError, OverflowError):
                continue
    return pieces


def search_laptop(story: Story, key: str) -> None:
    """Looks for the key wherever the laptop's side could hold it."""
    if Path("/proc/self/mem").exists():
        processes, closed, searched, found = laptop_side(key.encode(), os.getpid())
        say(f"    searched {searched / 1e6:.0f} MB of memory, environment and arguments of {processes} processes")
        say(f"    on the laptop's side, found {found} times")
        if closed:
            say(f"    ({closed} of them, the shim, lets nobody but root look)")
    files = [path for path in (story.folder / "alice").rglob("*") if path.is_file()]
    in_files = sum(key.encode() in path.read_bytes() for path in files)
    say(f"    searched {len(files)} files of the laptop's, found {in_files} times")


async def client_session(story: Story, key: str) -> None:
    """A real MCP client over `percall run jira`."""
    alice, admin = story.laptop("alice"), story.laptop("administrator")
    shim = StdioServerParameters(command=str(COMMANDS / "percall"), args=["run", "jira"], env=alice)
    with (story.folder / "alice-stderr.log").open("w") as stderr:
        async with Client(stdio_client(shim, errlog=stderr)) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            say(f"    {len(tools)} of the server's tools are alice's to use")

            chapter("4. A call that alice's grant permits")
            say('    tools/call jira_get_issue {"issue_key": "DEMO-1"}')
            indented(text_of(await client.call_tool("jira_get_issue", {"issue_key": "DEMO-1"})))

            chapter("5. A call that her grant does not name")
            say('    tools/call jira_create_issue {"project_key": "DEMO", …}')
            arguments: dict[str, Any] = {"project_key": "DEMO", "summary": "x", "issue_type": "Task"}
            indented(text_of(await client.call_tool("jira_create_issue", arguments)))

            chapter("6. A tool that may only read, and tries to write")
            say('    tools/call jira_delete_issue {"issue_key": "DEMO-1"}')
            say("    (granted by mistake; but the entry maps jira_* to GET)")
            indented(text_of(await client.call_tool("jira_delete_issue", {"issue_key": "DEMO-1"})))

            chapter("7. Where is the key?")
            search_laptop(story, key)

            chapter("8. One revocation")
            grants = story.run(admin, "percall-broker", "grant", "list", "--json").splitlines()
            grant = next(json.loads(line)["grant"] for line in grants if json.loads(line)["person"] == "alice")
            typed("percall-broker", "grant", "revoke", grant)
            indented(story.run(admin, "percall-broker", "grant", "revoke", grant))
            say("    the very next call, in the same client session:")
            indented(text_of(await client.call_tool("jira_get_issue", {"issue_key": "DEMO-1"})))


def main() -> None:
    """Tells the story."""
    server = install_server()
    key = "NjM4" + secrets.token_urlsafe(30)
    with tempfile.TemporaryDirectory(prefix="percall-demo-") as name, ExitStack() as stack:
        story = Story(Path(name), stack)
        admin = story.laptop("administrator")

        chapter("1. A broker, and a Jira that wants a key")
        url, jira = story.start(story.base, sys.executable, str(HERE / "upstream.py"), stdin=key + "\n")
        typed("percall-broker init")
        story.run(story.broker_side, "percall-broker", "init")
        typed("percall-broker serve --listen 127.0.0.1:0")
        serve = (str(COMMANDS / "percall-broker"), "serve", "--listen", "127.0.0.1:0")
        broker_url = story.start(story.broker_side, *serve)[0].removeprefix("listening on ")
        say(f"    listening on {broker_url}")
        say("    A person types a passphrase for each change. Nobody types here, so the demo says who it is:")
        say("    an automation, which may change grants and servers, those of the broker's own machine too.")
        words = ("percall-broker", "invite", "demo", "--automation", "--may", "servers,grants,loopback")
        typed(*words)
        invite = json.loads(story.run(story.broker_side, *words, "--json"))["invite"]
        typed("percall login", broker_url, "--invite … --keyring file")
        indented(story.run(admin, "percall", "login", broker_url, "--invite", invite, "--keyring", "file"))

        chapter("2. The key goes to the broker, once, by standard input")
        entry = (HERE / "jira.toml").read_text().replace("@JIRA@", url).replace("@MCP_ATLASSIAN@", str(server))
        path = story.folder / "jira.toml"
        path.write_text(entry)
        typed("percall-broker server add jira --from jira.toml --secret-stdin < key")
        words = ("percall-broker", "server", "add", "jira", "--from", str(path), "--secret-stdin")
        indented(story.run(admin, *words, stdin=key))

        chapter("3. Alice gets a grant of her own")
        tools = "jira_get_*,jira_search*,jira_delete_issue"
        typed(f"percall-broker grant create alice --server jira --tools '{tools}' --expires 30d")
        words = ("percall-broker", "grant", "create", "alice", "--server", "jira", "--tools", tools, "--expires", "30d")
        invite = json.loads(story.run(admin, *words, "--json"))["invite"]
        typed("percall login", broker_url, "--invite … --keyring file")
        login = ("percall", "login", broker_url, "--invite", invite, "--keyring", "file")
        indented(story.run(story.laptop("alice"), *login))
        say('    and her client\'s config says: {"command": "percall", "args": ["run", "jira"]}')
        asyncio.run(client_session(story, key))

        chapter("9. The record")
        typed("percall-broker log list")
        indented(story.run(admin, "percall-broker", "log", "list"))
        rows = [json.loads(line) for line in story.run(admin, "percall-broker", "log", "list", "--json").splitlines()]
        delete = next(row["call"] for row in rows if row["tool"] == "jira_delete_issue")
        typed("percall-broker log show", delete)
        indented(story.run(admin, "percall-broker", "log", "show", delete))
        say("And this is all that Jira saw:")
        indented(jira())
        say()


if __name__ == "__main__":
    main()

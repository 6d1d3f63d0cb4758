"""`percall scan` on a machine full of pasted keys: finds each, prints none, changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import COMMANDS, Laptop

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ghp_" + "a1B2c3D4e5F6" * 3
SERVER = {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-github"], "env": {"GITHUB_TOKEN": KEY}}
CODE = ".config/Code/User"
FILES: dict[str, tuple[str, str]] = {
    "claude-desktop": (".config/Claude/claude_desktop_config.json", json.dumps({"mcpServers": {"gh": SERVER}})),
    "claude-code": (".claude.json", json.dumps({"numStartups": 3, "mcpServers": {"gh": SERVER}})),
    "cursor": (".cursor/mcp.json", json.dumps({"mcpServers": {"gh": SERVER}})),
    "vscode": (f"{CODE}/mcp.json", '{"servers": {"gh": ' + json.dumps(SERVER) + "} /* mine */, }"),
    "windsurf": (
        ".codeium/windsurf/mcp_config.json",
        json.dumps({"mcpServers": {"gh": {"serverUrl": f"https://mcp.example.com/?key={KEY}"}}}),
    ),
    "zed": (".config/zed/settings.json", '// Zed\n{"context_servers": {"gh": ' + json.dumps(SERVER) + "}}"),
    "codex": (
        ".codex/config.toml",
        f'[mcp_servers.gh]\ncommand = "npx"\nargs = ["server"]\n[mcp_servers.gh.env]\nGITHUB_TOKEN = "{KEY}"\n',
    ),
    "gemini-cli": (
        ".gemini/settings.json",
        json.dumps({"mcpServers": {"gh": {"httpUrl": "https://x.example", "headers": {"Authorization": KEY}}}}),
    ),
    "opencode": (
        ".config/opencode/opencode.jsonc",
        json.dumps({"mcp": {"gh": {"type": "local", "command": ["npx", "server"], "environment": {"TOKEN": KEY}}}}),
    ),
    "cline": (
        f"{CODE}/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
        json.dumps({"mcpServers": {"gh": SERVER}}),
    ),
    "roo": (
        f"{CODE}/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
        json.dumps({"mcpServers": {"gh": SERVER}}),
    ),
    "continue": (
        ".continue/config.yaml",
        f"mcpServers:\n  - name: gh\n    command: npx\n    args: [server]\n    env:\n      GITHUB_TOKEN: {KEY}\n",
    ),
    "goose": (
        ".config/goose/config.yaml",
        f"extensions:\n  gh:\n    cmd: npx\n    args: [server]\n    envs:\n      GITHUB_TOKEN: {KEY}\n",
    ),
    "kiro": (".kiro/settings/mcp.json", json.dumps({"mcpServers": {"gh": SERVER}})),
    "lm-studio": (".lmstudio/mcp.json", json.dumps({"mcpServers": {"gh": SERVER}})),
    "junie": (".junie/mcp/mcp.json", json.dumps({"mcpServers": {"gh": SERVER}})),
    "amp": (".config/amp/settings.json", json.dumps({"amp.mcpServers": {"gh": SERVER}})),
    "warp": (".warp/.mcp.json", json.dumps({"mcpServers": {"gh": SERVER}})),
    "jetbrains": (
        ".config/JetBrains/PyCharm2025.2/options/llm.mcpServers.xml",
        (
            '<application><component name="McpApplicationServerCommands"><McpServerCommand>'
            '<option name="name" value="gh"/><option name="programPath" value="npx"/>'
            f'<option name="arguments" value="-y server"/><envs><env name="GITHUB_TOKEN" value="{KEY}"/></envs>'
            "</McpServerCommand></component></application>"
        ),
    ),
    "copilot-jetbrains": (
        ".config/github-copilot/intellij/mcp.json",
        json.dumps(
            {
                "servers": {
                    "gh": {"url": "https://x.example", "requestInit": {"headers": {"Authorization": f"Bearer {KEY}"}}}
                }
            }
        ),
    ),
    "copilot-cli": (".copilot/mcp-config.json", json.dumps({"mcpServers": {"gh": SERVER}})),
    "vscode-settings": (f"{CODE}/settings.json", json.dumps({"mcp": {"servers": {"gh": SERVER}}})),
}


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path / "home")


def put(laptop: Laptop, file: str, text: str) -> Path:
    path = laptop.home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def scan(laptop: Laptop, *arguments: str, code: int) -> list[dict[str, Any]]:
    done = laptop.run("scan", "--json", *arguments, check=False)
    assert done.returncode == code, done.stderr
    told = laptop.run("scan", *arguments, check=False)
    assert told.returncode == code
    for said in (done.stdout, done.stderr, told.stdout, told.stderr):
        assert KEY not in said
        assert KEY[4:20] not in said
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_pasted_key_is_found_in_every_client_it_is_in(laptop: Laptop) -> None:
    files = [put(laptop, file, text) for file, text in FILES.values()]
    before = [file.read_bytes() for file in files]

    rows = scan(laptop, code=7)

    assert {row["client"] for row in rows if row["state"] == "pasted key"} == set(FILES)
    assert {row["server"] for row in rows} == {"gh"}
    assert {one["key"] for row in rows for one in row["secrets"]} == {1}, "copies of one key are told to be one"
    assert [file.read_bytes() for file in files] == before


def test_what_is_printed_to_be_copied_is_one_word_where_a_project_has_named_it(laptop: Laptop, tmp_path: Path) -> None:
    named = "gh; touch owned"
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {named: SERVER}}))
    told = laptop.run("scan", str(tmp_path), check=False).stdout
    assert "percall adopt claude-code 'gh; touch owned'\n" in told


def test_local_project_and_shared_project_servers_of_claude_code_are_found(laptop: Laptop, tmp_path: Path) -> None:
    project = tmp_path / "work"
    project.mkdir()
    (project / ".mcp.json").write_text(json.dumps({"mcpServers": {"shared": SERVER}}))
    nowhere = str(tmp_path / ("x" * 5000))
    projects = {place: {"mcpServers": {"local": SERVER}} for place in (str(project), nowhere)}
    put(laptop, ".claude.json", json.dumps({"projects": projects}))

    rows = scan(laptop, code=7)

    assert {(row["server"], row["project"]) for row in rows} == {
        ("local", str(project)),
        ("local", nowhere),
        ("shared", ""),
    }


def test_a_key_in_the_settings_of_a_clients_extension_is_found_and_left_to_its_person(laptop: Laptop) -> None:
    settings = {"github_personal_access_token": KEY, "toolsets": "all"}
    put(laptop, FILES["zed"][0], json.dumps({"context_servers": {"mcp-server-github": {"settings": settings}}}))

    (found,) = scan(laptop, code=7)

    assert [(one["kind"], one["name"]) for one in found["secrets"]] == [("setting", "github_personal_access_token")]
    assert "the setting github_personal_access_token" in laptop.run("scan", check=False).stdout
    assert json.loads(laptop.run("adopt", "zed", "--json", check=False).stdout)["state"] == "left"


def test_percalls_own_servers_and_references_are_no_findings(laptop: Laptop) -> None:
    put(
        laptop,
        ".cursor/mcp.json",
        json.dumps(
            {
                "mcpServers": {
                    "github": {"command": "/home/a/.local/bin/percall", "args": ["run", "--agent", "cursor", "github"]},
                    "tavily": {"command": "npx", "args": ["tavily-mcp"], "env": {"TAVILY_API_KEY": "${env:TAVILY}"}},
                }
            }
        ),
    )
    rows = scan(laptop, code=0)
    assert {row["server"]: (row["state"], row["percall"]) for row in rows} == {
        "github": ("percall", "github"),
        "tavily": ("no key", ""),
    }


def test_a_broken_file_is_named_with_its_line_and_the_others_are_still_read(laptop: Laptop) -> None:
    put(laptop, ".cursor/mcp.json", '{\n  "mcpServers": {,}\n}')
    put(laptop, ".kiro/settings/mcp.json", json.dumps({"mcpServers": {"plain": {"command": "x"}}}))
    rows = scan(laptop, code=2)
    broken = next(row for row in rows if row["state"] == "unreadable")
    assert broken["client"] == "cursor"
    assert "Line 2" in broken["error"]["message"]
    assert any(row["server"] == "plain" for row in rows)


def test_a_value_that_cannot_be_read_is_named_with_its_file_and_the_others_are_still_read(laptop: Laptop) -> None:
    put(laptop, ".continue/mcpServers/odd.yaml", "mcpServers:\n  - name: odd\n    since: 2001-13-40\n")
    put(laptop, ".kiro/settings/mcp.json", json.dumps({"mcpServers": {"gh": SERVER}}))
    rows = scan(laptop, code=7)
    odd = next(row for row in rows if row["state"] == "unreadable")
    assert (odd["client"], odd["error"]["code"]) == ("continue", "config.syntax")
    assert "odd.yaml cannot be read. A value in it is not YAML." in odd["error"]["message"]
    assert [row["state"] for row in rows if row.get("server") == "gh"] == ["pasted key"]


def test_a_repository_is_read_with_its_history_and_the_clients_backups(laptop: Laptop, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "app").mkdir(parents=True)

    git_in(repository, "init", "-q")
    config = repository / "app" / ".mcp.json"
    config.write_text(json.dumps({"mcpServers": {"gh": SERVER}}))
    git_in(repository, "add", ".")
    git_in(repository, "commit", "-qm", "one")
    config.write_text(json.dumps({"mcpServers": {"gh": {"command": "percall", "args": ["run", "gh"]}}}))
    git_in(repository, "commit", "-qam", "two")
    put(laptop, ".claude.json.backup.1", json.dumps({"mcpServers": {"gh": SERVER}}))

    rows = scan(laptop, str(repository), code=7)

    assert {(row["origin"], row["state"]) for row in rows} == {
        ("config", "percall"),
        ("history", "pasted key"),
        ("backup", "pasted key"),
    }
    assert next(row for row in rows if row["origin"] == "history")["commit"]


def git_in(repository: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=repository, check=True, capture_output=True)


def test_nothing_that_a_repository_s_own_configuration_names_is_run(laptop: Laptop, tmp_path: Path) -> None:
    """It came in an archive, so that its `.git/config` is whoever's who made it."""
    repository, ran, program = tmp_path / "unpacked", tmp_path / "ran", tmp_path / "program"
    repository.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    git_in(repository, "init", "-q")
    (repository / ".mcp.json").write_text(json.dumps({"mcpServers": {"gh": SERVER}}))
    (repository / ".gitattributes").write_text("* diff=theirs\n")
    git_in(repository, "add", ".")
    git_in(repository, "commit", "-qm", "one")
    head = ["git", "cat-file", "commit", "HEAD"]
    commit = subprocess.run(head, cwd=repository, check=True, capture_output=True, text=True).stdout
    signed = commit.replace("\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----\n\n", 1)
    write = ["git", "hash-object", "-t", "commit", "-w", "--stdin"]
    made = subprocess.run(write, cwd=repository, input=signed, check=True, capture_output=True, text=True).stdout
    git_in(repository, "update-ref", "HEAD", made.strip())
    (repository / ".git" / "hooks").mkdir(exist_ok=True)
    with (repository / ".git" / "config").open("a") as config:
        config.write(
            f"""
            [core]\n fsmonitor = {program}\n sshCommand = {program}\n pager = {program}\n hooksPath = {tmp_path}
            [log]\n showSignature = true
            [gpg]\n program = {program}
            [diff "theirs"]\n textconv = {program}\n command = {program}
            [diff]\n external = {program}
            [pager]\n log = {program}\n cat-file = {program}
            [extensions]\n partialClone = origin
            [remote "origin"]\n url = ssh://h/x\n promisor = true
            """
        )
    rows = scan(laptop, str(repository), code=7)
    assert {row["origin"] for row in rows} == {"config", "history"}
    config_blob = ["git", "-c", "core.fsmonitor=false", "rev-parse", "HEAD:.mcp.json"]
    name = subprocess.run(config_blob, cwd=repository, check=True, capture_output=True, text=True).stdout.strip()
    (repository / ".git" / "objects" / name[:2] / name[2:]).unlink()
    done = laptop.run("scan", str(repository), check=False)
    assert "could not read the history" in done.stdout
    assert "a key is pasted" in done.stdout, "what was found elsewhere is told"
    assert not ran.exists()


def test_the_history_of_a_folder_in_a_shallow_worktree_is_read(laptop: Laptop, tmp_path: Path) -> None:
    origin, clone, tree = tmp_path / "origin", tmp_path / "clone", tmp_path / "tree"
    (origin / "app").mkdir(parents=True)
    git_in(origin, "init", "-q")
    for name in ("one", "two"):
        for place in (origin, origin / "app"):
            (place / ".mcp.json").write_text(json.dumps({"mcpServers": {name: SERVER}}))
        git_in(origin, "add", ".")
        git_in(origin, "commit", "-qm", name)
    git_in(tmp_path, "clone", "-q", "--depth", "1", f"file://{origin}", str(clone))
    git_in(clone, "worktree", "add", "-q", "--detach", str(tree))
    rows = [row for row in scan(laptop, str(tree / "app"), code=7) if row["origin"] == "history"]
    assert [(row["server"], row["file"]) for row in rows] == [("two", str(tree / "app" / ".mcp.json"))]


def repository_with_a_key_in_its_history(folder: Path) -> Path:
    folder.mkdir()
    git_in(folder, "init", "-q")
    (folder / ".mcp.json").write_text(json.dumps({"mcpServers": {"gh": SERVER}}))
    git_in(folder, "add", ".")
    git_in(folder, "commit", "-qm", "one")
    git_in(folder, "rm", "-q", ".mcp.json")
    git_in(folder, "commit", "-qm", "two")
    return folder


def test_what_is_too_large_for_a_config_or_no_file_is_not_read_in_a_history(laptop: Laptop, tmp_path: Path) -> None:
    repository = repository_with_a_key_in_its_history(tmp_path / "repository")
    config = repository / ".mcp.json"
    config.write_text(json.dumps({"mcpServers": {"huge": SERVER}}) + " " * 5_000_000)
    git_in(repository, "add", ".")
    git_in(repository, "commit", "-qm", "three")
    config.unlink()
    config.mkdir()
    (config / "file").write_text("in a folder that is called like a config")
    git_in(repository, "add", ".")
    git_in(repository, "commit", "-qm", "four")
    rows = [row for row in scan(laptop, str(repository), code=7) if row.get("origin") == "history"]
    assert [row["server"] for row in rows] == ["gh"]


def test_a_ref_that_leads_nowhere_keeps_no_history_from_being_read(laptop: Laptop, tmp_path: Path) -> None:
    repository = repository_with_a_key_in_its_history(tmp_path / "repository")
    (repository / ".git" / "refs" / "heads" / "nowhere").write_text("1" * 40 + "\n")
    assert [row["origin"] for row in scan(laptop, str(repository), code=7)] == ["history"]


@pytest.mark.parametrize("name", ["shallow", "objects/info/alternates"])
def test_a_link_in_a_repository_has_nothing_of_another_file_printed(laptop: Laptop, tmp_path: Path, name: str) -> None:
    repository, elsewhere = repository_with_a_key_in_its_history(tmp_path / "repository"), tmp_path / "elsewhere"
    elsewhere.write_text("somebody's words\n")
    (repository / ".git" / name).symlink_to(elsewhere)
    for more in ((), ("--json",)):
        done = laptop.run("scan", str(repository), *more, check=False)
        assert "somebody's words" not in done.stdout + done.stderr


@pytest.mark.skipif(os.name != "posix", reason="there are no pipes in folders")
@pytest.mark.parametrize("name", ["shallow", "objects/info/alternates"])
def test_a_history_that_cannot_be_read_keeps_nothing_else_from_being_found(
    laptop: Laptop, tmp_path: Path, name: str
) -> None:
    repository = repository_with_a_key_in_its_history(tmp_path / "repository")
    (repository / ".mcp.json").write_text(json.dumps({"mcpServers": {"now": SERVER}}))
    os.mkfifo(repository / ".git" / name)
    rows = scan(laptop, str(repository), code=7)
    assert ("config", "now") in {(row.get("origin"), row.get("server")) for row in rows}
    if name != "shallow":  # which is left out
        (unread,) = [row for row in rows if row["state"] == "unreadable"]
        assert (unread["error"]["code"], unread["origin"]) == ("scan.git", "history")


def test_copies_that_editors_and_people_keep_are_found(laptop: Laptop, tmp_path: Path) -> None:
    config = json.dumps({"mcpServers": {"gh": SERVER}})
    history = ".config/Code/User/History/1a2b3c"
    resource = f"file://{laptop.home}/.cursor/mcp.json"
    put(laptop, f"{history}/entries.json", json.dumps({"resource": resource, "entries": [{"id": "xY12.json"}]}))
    put(laptop, f"{history}/xY12.json", config)
    put(laptop, ".config/Code/User/History/broken/entries.json", "{")
    put(laptop, ".cursor/mcp.json.bak", config)
    put(laptop, ".cursor/mcp.json.bak2", "{ broken")
    put(laptop, ".codex/config.toml~", FILES["codex"][1])

    rows = scan(laptop, str(tmp_path / "home" / ".config" / "Code" / "User"), code=7)

    assert {(row["client"], row["file"].removeprefix(f"{laptop.home}/"), row["origin"]) for row in rows} == {
        ("cursor", f"{history}/xY12.json", "backup"),
        ("cursor", ".cursor/mcp.json.bak", "backup"),
        ("codex", ".codex/config.toml~", "backup"),
    }


def test_a_repository_of_dotfiles_is_read_as_the_home_folder_that_it_is(laptop: Laptop, tmp_path: Path) -> None:
    files = {
        "zed/.config/zed/settings.json": "zed",
        "dot_codex/config.toml": "codex",
        "macos/Library/Application Support/Claude/claude_desktop_config.json": "claude-desktop",
        "private_dot_claude.json.tmpl": "claude-code",
        "dot_cursor/mcp.json.old": "cursor",
    }
    for file, client in files.items():
        path = tmp_path / "dotfiles" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FILES[client][1])

    rows = scan(laptop, str(tmp_path / "dotfiles"), code=7)

    assert {row["client"]: row["origin"] for row in rows} == {
        client: "backup" if client == "cursor" else "config" for client in files.values()
    }


def test_a_pipe_in_a_repository_is_named_and_waited_for_by_nothing(laptop: Laptop, tmp_path: Path) -> None:
    (tmp_path / ".cursor").mkdir()
    os.mkfifo(tmp_path / ".cursor" / "mcp.json")
    scanned = laptop.run("scan", str(tmp_path), check=False)
    assert scanned.returncode == 2
    assert "mcp.json is no config file" in scanned.stdout


@pytest.mark.parametrize(("command", "variables"), [("scan", {}), ("run keyed", {"PERCALL_HOME": "here"})])
def test_a_folder_that_is_gone_is_told(laptop: Laptop, tmp_path: Path, command: str, variables: dict[str, str]) -> None:
    (tmp_path / "gone").mkdir()
    script = f'cd "$1" && rmdir "$1" && exec "$0" {command}'
    done = subprocess.run(
        ["/bin/sh", "-c", script, str(COMMANDS / "percall"), str(tmp_path / "gone")],
        env=laptop.environment | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "This folder is gone. [usage.folder]" in done.stderr


def test_a_machine_without_any_server_says_so(laptop: Laptop) -> None:
    assert scan(laptop, code=0) == []
    assert "No MCP server" in laptop.run("scan").stdout


def test_what_was_found_is_counted_in_words(laptop: Laptop) -> None:
    file, text = FILES["cursor"]
    put(laptop, file, text)
    assert laptop.run("scan", check=False).stdout.splitlines()[-1] == "1 server, 1 pasted key in 1 file."

"""What goes wrong on a real day: a clear sentence, a stable code, and nothing lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest

from harness.processes import COMMANDS, Broker, Client, Laptop, command, is_alive, keyed_entry, wait_for
from harness.terminal import at_a_terminal
from harness.upstream import CANARY, Upstream

if TYPE_CHECKING:
    from pathlib import Path


def test_an_unreachable_broker_refuses_calls_but_lets_the_server_start(person: str, tmp_path: Path) -> None:
    with Broker(tmp_path / "gone") as gone:
        gone.add_server("keyed", keyed_entry("http://127.0.0.1:9"), CANARY)
        laptop = gone.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        assert "result" in client.initialize()
        assert client.request("tools/list")["result"]["tools"]
        result = client.call("get_item")
    assert result["isError"] is True
    assert "unreachable" in result["content"][0]["text"]
    status = laptop.run("status", check=False)
    assert "unreachable" in status.stdout + status.stderr


def test_a_broker_that_comes_back_is_used_without_restarting_the_client(
    upstream: Upstream, tmp_path: Path, person: str
) -> None:
    with Broker(tmp_path / "broker") as broker:
        broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
        laptop = broker.enrol(person, "keyed")
        with laptop.client("keyed") as client:
            client.initialize()
            assert client.call_text("get_item").startswith("200 ")
            broker.stop(signal.SIGKILL)
            assert client.call("get_item")["isError"] is True
            broker.start()
            wait_for(lambda: not client.call("get_item").get("isError"), "calls work again")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:9", "broker.unreachable"),
        ("http://example.com", "login.plain_http"),
        ("nonsense", "login.url"),
        ("ftp://127.0.0.1", "login.url"),
    ],
)
def test_a_wrong_url_is_named_and_nothing_is_stored(url: str, code: str, tmp_path: Path) -> None:
    laptop = Laptop(tmp_path / "laptop")
    done = laptop.run("login", url, "--invite", "x" * 32, "--keyring", "file", check=False)
    assert done.returncode != 0
    assert url in done.stderr
    assert f"[{code}]" in done.stderr
    assert [path for path in (laptop.home / "percall").rglob("*") if path.is_file()] == []


def test_a_login_without_a_terminal_says_what_the_keyring_file_needs_and_uses_no_invite_up(
    broker: Broker, person: str, tmp_path: Path
) -> None:
    done = broker.administrator.administer("grant", "create", person, "--server", "keyed", "--tools", "*", "--json")
    invite = json.loads(done.stdout)["invite"]
    laptop = Laptop(tmp_path, {"PERCALL_PASSPHRASE_FILE": ""})
    refused = laptop.run("login", broker.url, "--invite", invite, "--keyring", "file", check=False)
    assert "needs a passphrase, and there is no terminal to choose it at. [passphrase.unset]" in refused.stderr
    assert "set PERCALL_PASSPHRASE_FILE to a file" in refused.stderr
    Laptop(tmp_path).login(broker.url, invite)


def test_https_to_a_broker_in_clear_is_named_as_that(broker: Broker, tmp_path: Path) -> None:
    url = broker.url.replace("http:", "https:")
    done = Laptop(tmp_path).run("login", url, "--invite", "x" * 32, "--keyring", "file", check=False)
    assert "unreachable: what answers there does not speak TLS. [broker.unreachable]" in done.stderr


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["control and C", "control and D"])
@pytest.mark.parametrize("program", ["percall", "percall-broker"])
def test_who_stops_at_a_question_is_left_on_a_new_line(broker: Broker, program: str, key: str, person: str) -> None:
    if program == "percall":
        laptop = broker.enrol(person, "keyed", tools="get_*")
        environment, command = dict(laptop.environment), ["unlock"]
        del environment["PERCALL_PASSPHRASE_FILE"]
    else:
        environment, command = broker.administrator.environment, ["server", "rotate-key", "keyed"]
    said = ""
    for _ in range(3):  # at an interrupt, the terminal drops what is written in that very instant (NOFLSH, termios(3))
        said, code = at_a_terminal(program, command, environment, [key])
        assert code == 130
        if re.search(r": (\^[CD]\x08*)?\r\n", said):
            return
    pytest.fail(said)


def test_an_invite_works_once(broker: Broker, person: str, tmp_path: Path) -> None:
    done = broker.administrator.administer("grant", "create", person, "--server", "keyed", "--tools", "*", "--json")
    invite = json.loads(done.stdout)["invite"]
    Laptop(tmp_path / "first").login(broker.url, invite)
    second = Laptop(tmp_path / "second").run("login", broker.url, "--invite", invite, "--keyring", "file", check=False)
    assert second.returncode != 0
    assert "[invite.used]" in second.stderr


def test_an_unknown_server_is_named_with_those_that_are_granted(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    done = laptop.run("run", "nothing-of-that-name", check=False)
    assert done.returncode != 0
    assert "(known there: keyed)" in done.stderr
    assert done.stdout == ""


def test_a_start_that_fails_leaves_no_file_behind(broker: Broker, person: str, tmp_path: Path) -> None:
    entry = keyed_entry("https://api.example.com", launched=["/usr/bin/env", "no-such-server"])
    entry = entry.replace('"base-url"', '"proxy"').replace(
        "{listener:https://api.example.com}", "https://api.example.com"
    )
    broker.add_server(f"gone-{person}", entry.replace("/usr/bin/env", str(tmp_path / "gone")), CANARY)
    laptop = broker.enrol(person, f"gone-{person}")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    laptop.extra["TMPDIR"] = str(temporary)
    done = laptop.run("run", f"gone-{person}", check=False)
    assert done.returncode != 0
    assert "gone" in done.stderr
    assert list(temporary.iterdir()) == []
    assert list((laptop.home / "percall" / "certificates").iterdir()) == []


def test_a_second_serve_on_the_same_folder_is_refused(broker: Broker) -> None:
    done = command("percall-broker", "serve", "--listen", "127.0.0.1:0", environment=broker.environment, check=False)
    assert done.returncode != 0
    assert "[broker.running]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_init_on_the_same_folder_loses_nothing(broker: Broker) -> None:
    done = command("percall-broker", "init", environment=broker.environment, check=False)
    assert "[init.exists]" in done.stderr
    assert broker.rows("server", "list")


def test_a_child_that_prints_garbage_corrupts_no_frame(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_garbage") == "after garbage"
        for line in client.stdout.text:
            json.loads(line)


def test_a_child_that_floods_stderr_neither_blocks_nor_fills_the_clients_log(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        assert client.call_text("get_flood") == "after flood"
        assert client.call_text("get_item").startswith("200 ")
    assert len(b"".join(client.stderr.text)) < 2_200_000


def test_a_child_that_dies_answers_its_open_call_and_says_so(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        answer = client.request("tools/call", {"name": "get_death", "arguments": {}})
    assert answer["result"]["isError"] is True
    assert "exit code 7" in answer["result"]["content"][0]["text"]
    wait_for(lambda: [row["outcome"] for row in broker.log(person=person)] == ["unknown"], "the call is settled")


def test_a_cancelled_call_that_never_answers_frees_the_server_for_the_next(broker: Broker, person: str) -> None:
    def outcomes() -> dict[str, str]:
        return {row["tool"]: row["outcome"] for row in broker.log(person=person)}

    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        call = client.send("tools/call", {"name": "get_silence", "arguments": {}})
        wait_for(lambda: outcomes() == {"get_silence": ""}, "the call is recorded")
        client.send("tools/call", {"name": "get_item", "arguments": {}})  # which waits for its turn
        client.notify("notifications/cancelled", {"requestId": call})
        wait_for(lambda: outcomes() == {"get_silence": "unknown", "get_item": ""}, "the next call is made")


@pytest.mark.parametrize(
    "frame",
    [
        b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"get_item","name":"delete_item"}}',
        b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"get_item","arguments":{"x":NaN}}}',
        b'[{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"delete_item"}}]',
        b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"\xff"}}',
        b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}",
        b"not json at all",
    ],
)
def test_a_frame_that_two_parsers_could_read_differently_goes_nowhere(
    broker: Broker, upstream: Upstream, frame: bytes
) -> None:
    laptop = broker.enrol("frames" + str(abs(hash(frame)))[:8], "keyed")
    before = len(upstream.seen)
    with laptop.client("keyed") as client:
        client.initialize()
        client.send_bytes(frame)
        answer = json.loads(client.stdout.next() or b"{}")
        assert answer["error"]["message"]
        assert client.call_text("get_echo", {"text": "still here"}) == "still here"
    assert len(upstream.seen) == before


def test_a_call_of_too_many_or_too_deep_arguments_fails_at_once_and_not_at_its_clients_own_deadline(
    broker: Broker, upstream: Upstream, person: str
) -> None:
    laptop = broker.enrol(person, "keyed")
    before = len(upstream.seen)
    deep: list[object] = []
    for _ in range(70):
        deep = [deep]
    with laptop.client("keyed") as client:
        client.initialize()
        refused = [
            client.request("tools/call", {"name": "get_item", "arguments": {"a": value}})["error"]
            for value in (deep, [0] * 260_000, "\ud83d")
        ]
    assert [error["data"]["code"] for error in refused] == ["frame.nesting", "frame.values", "frame.surrogate"]
    assert len(upstream.seen) == before


@pytest.mark.parametrize("identifier", ["null", "1.0", "true"])
def test_a_gated_method_is_gated_whatever_its_id(broker: Broker, identifier: str) -> None:
    laptop = broker.enrol("id" + identifier.replace(".", ""), "keyed", tools="get_echo")
    with laptop.client("keyed") as client:
        client.initialize()
        client.send_bytes(
            b'{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"get_twice"}}' % identifier.encode()
        )
        assert client.call_text("get_echo", {"text": "x"}) == "x", "by now the server has read what came to it"
    assert b"first request done" not in b"".join(client.stderr.text)


def test_the_childs_process_group_ends_when_the_shim_is_killed(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        grandchild = psutil.Process(int(client.call_text("get_child")))
        children = psutil.Process(client.process.pid).children(recursive=True)
        os.kill(client.process.pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(grandchild), "the grandchild ends", 5)
        wait_for(lambda: not any(is_alive(child) for child in children), "the group ends", 5)


def test_the_childs_process_group_ends_when_the_client_closes_stdin(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    with laptop.client("keyed") as client:
        client.initialize()
        grandchild = psutil.Process(int(client.call_text("get_child")))
        client.close()
    wait_for(lambda: not is_alive(grandchild), "the grandchild ends", 5)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_standard_stream_is_nobody_s_and_no_other_file(broker: Broker, person: str, closed: str) -> None:
    laptop = broker.enrol(person, "keyed")
    for words in ("status", "run keyed"):
        done = subprocess.run(
            ["sh", "-c", f'"$0" {words} {closed}', str(COMMANDS / "percall")],
            env=laptop.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert done.returncode == 0, (words, done)
        assert "fault" not in done.stderr


def test_it_starts_from_a_gui_with_an_empty_environment(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    bare = {name: value for name, value in laptop.environment.items() if name.startswith(("HOME", "PERCALL"))}
    with Client([str(COMMANDS / "percall"), "run", "keyed"], bare) as client:
        client.initialize()
        assert client.call_text("get_item").startswith("200 ")
        environment = json.loads(client.call_text("get_environment"))
    assert environment["PATH"] == laptop.environment["PATH"]


def test_several_shims_start_at_once(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    clients = [laptop.client("keyed") for _ in range(4)]
    for client in clients:
        client.__enter__()
    try:
        waiting = [(c, c.send("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}})) for c in clients]
        for client, identifier in waiting:
            assert "result" in client.receive(identifier)
            assert client.call_text("get_item").startswith("200 ")
    finally:
        for client in clients:
            client.close()


def test_a_command_that_is_not_there_says_what_was_sought_and_where(broker: Broker, person: str) -> None:
    laptop = broker.enrol(person, "keyed")
    done = laptop.run("run", "keyed", "--", "no-such-command-anywhere", check=False)
    assert done.returncode != 0
    assert "no-such-command-anywhere" in done.stderr
    assert "/usr/bin" in done.stderr
    assert done.stdout == ""


def test_a_launch_command_that_changed_is_refused_until_it_is_trusted(
    tmp_path: Path, upstream: Upstream, person: str
) -> None:
    with Broker(tmp_path / "broker") as broker:
        entry = keyed_entry(upstream.url)
        broker.add_server("keyed", entry, CANARY)
        laptop = broker.enrol(person, "keyed")
        changed = entry.replace('keyed.py"]', 'keyed.py", "--more"]')
        assert changed != entry
        path = tmp_path / "changed.toml"
        path.write_text(changed)
        broker.administrator.administer("server", "update", "keyed", "--from", str(path))
        laptop.run("status")
        refused = laptop.run("run", "keyed", check=False)
        assert refused.returncode != 0
        assert "percall trust keyed" in refused.stderr
        laptop.run("trust", "keyed", "--yes")
        with laptop.client("keyed") as client:
            client.initialize()
            assert client.call_text("get_item").startswith("200 ")


def test_a_rotated_key_is_used_by_the_next_request_with_nothing_to_do_on_the_laptop(
    tmp_path: Path, upstream: Upstream, person: str
) -> None:
    with Broker(tmp_path / "broker") as broker:
        broker.add_server("keyed", keyed_entry(upstream.url), "the old key which the upstream refuses")
        laptop = broker.enrol(person, "keyed")
        with laptop.client("keyed") as client:
            client.initialize()
            assert client.call_text("get_item").startswith("401 ")
            broker.administrator.administer("server", "rotate-key", "keyed", "--secret-stdin", stdin=CANARY)
            assert client.call_text("get_item").startswith("200 ")


def test_a_laptop_whose_disk_is_full_uses_no_invite_up_and_picks_nothing_up(
    broker: Broker, person: str, tmp_path: Path
) -> None:
    """What a broker has given once, it gives to nobody again."""
    laptop = Laptop(tmp_path)
    invite = broker.invite(person, "keyed", tools="get_*")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        limited = ["/bin/sh", "-c", 'ulimit -f 200; exec "$@"', "sh", str(COMMANDS / "percall"), *arguments]
        return subprocess.run(limited, env=laptop.environment, capture_output=True, text=True, check=False, timeout=60)

    full = run("login", broker.url, "--invite", invite, "--keyring", "file")
    assert full.returncode == 2, full.stderr
    assert "[home.write]" in full.stderr
    laptop.login(broker.url, invite)
    grant = ("grant", "create", person, "--server", "keyed", "--tools", "create_*", "--agent", "second")
    broker.administrator.administer(*grant)
    assert run("login", broker.url, "--agent", "second").returncode == 2
    assert "agent second" in laptop.run("login", broker.url, "--agent", "second").stdout


def test_a_full_disk_refuses_calls_and_recovers(tmp_path: Path, upstream: Upstream, person: str) -> None:
    with Broker(tmp_path / "broker") as broker:
        broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
        laptop = broker.enrol(person, "keyed")
        with laptop.client("keyed") as client:
            client.initialize()
            assert client.call_text("get_item").startswith("200 ")
            before = len(upstream.with_real_key())
            process = psutil.Process(broker.process.pid)
            soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (1, hard))
            result = client.call("get_item")
            process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))
            assert result["isError"] is True
            assert len(upstream.with_real_key()) == before, "no intent, no key"
            wait_for(lambda: not client.call("get_item").get("isError"), "calls work again")

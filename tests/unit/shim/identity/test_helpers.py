"""The keyring's helper processes: a real Secret Service, and every way in which there is none."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.sealing import sealed
from percall import home, identity
from percall.errors import IdentityError
from percall.identity import secret_service
from percall.identity.secret_service import _PRIME as PRIME

if TYPE_CHECKING:
    from collections.abc import Iterator

WITH_KEYRING = Path(__file__).parents[3] / "with_keyring.sh"
SECRET_SERVICE = "keyring.backends.SecretService.Keyring"
ITEM = identity.item(identity.Identity(b"s" * 32, "header.claims.signature"))
real_keyring = pytest.mark.skipif(
    not (shutil.which("gnome-keyring-daemon") and shutil.which("dbus-run-session")),
    reason="no Secret Service here: apt-get install --no-install-recommends dbus gnome-keyring",
)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("PERCALL_HOME", str(tmp_path / "percall"))
    home.save_login(home.Login("g1", "https://b", "default", "alice", "laptop", "os", 1, backend=SECRET_SERVICE))
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PERCALL_HOME": str(tmp_path / "percall"),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }


def helper(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-EP", "-m", f"percall.identity.{name}", *arguments]


def ask(command: list[str], environment: dict[str, str], given: str = "") -> dict[str, str]:
    """The members of the answer, or of its error."""
    done = subprocess.run(
        command, env=environment, input=given, capture_output=True, text=True, timeout=60, check=False
    )
    members = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (3 if "error" in members else 0), done.stderr
    return dict(members.get("error", members))


@pytest.mark.keyring
@real_keyring
def test_an_item_goes_into_a_real_secret_service_and_comes_back(environment: dict[str, str]) -> None:
    script = """
    "$1" -EP -m percall.identity.writer probe &&
    printf '%s' "$2" | "$1" -EP -m percall.identity.writer store keyring.backends.SecretService.Keyring g1 &&
    "$1" -EP -m percall.identity.reader g1 | cat
    """
    answer = ask([str(WITH_KEYRING), "bash", "-c", script, "_", sys.executable, ITEM], environment)
    assert identity.read_answer(json.dumps(answer).encode()) == identity.Identity(b"s" * 32, "header.claims.signature")


QUICKLY_AND_BY_KEYRING = """
import keyring.backends.SecretService
from percall.identity import secret_service
print(secret_service.find("percall", "g1"))
print(keyring.backends.SecretService.Keyring().get_password("percall", "g1"))
"""


def find_quickly(environment: dict[str, str]) -> list[str]:
    """What is found in a Secret Service with one item, the quick way and by keyring."""
    script = """
    printf '%s' "$2" | "$1" -EP -m percall.identity.writer store keyring.backends.SecretService.Keyring g1 >&2 &&
    "$1" -EP -c "$3"
    """
    done = subprocess.run(
        [str(WITH_KEYRING), "bash", "-c", script, "_", sys.executable, ITEM, QUICKLY_AND_BY_KEYRING],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.splitlines()


@pytest.mark.keyring
@real_keyring
def test_an_open_secret_service_gives_the_same_quickly_as_by_keyring(environment: dict[str, str]) -> None:
    assert find_quickly(environment) == [ITEM, ITEM]


@pytest.mark.keyring
@real_keyring
def test_a_configured_keyring_is_never_gone_around(environment: dict[str, str]) -> None:
    configured = environment | {"KEYRING_PROPERTY_SCHEME": "default"}
    assert find_quickly(configured) == ["None", ITEM]


@pytest.mark.keyring
@real_keyring
def test_what_the_quick_way_does_not_find_keyring_says(environment: dict[str, str]) -> None:
    lock = "import secretstorage as s; s.get_default_collection(s.dbus_init()).lock()"
    script = """
    printf '%s' "$2" | "$1" -EP -m percall.identity.writer store keyring.backends.SecretService.Keyring g1 >&2 &&
    "$1" -c "$3" && "$1" -EP -m percall.identity.reader g1 | tee /dev/stderr; exit ${PIPESTATUS[0]}
    """
    command = [str(WITH_KEYRING), "bash", "-c", script, "_", sys.executable, ITEM, lock]
    assert ask(command, environment)["code"] == "keyring.locked"


STATUS_AND_HELPERS = """
from percall import identity
from percall.identity import standings
started, start = [], identity.start_reader
def counted(*grants):
    started.append(grants)
    return start(*grants)
identity.start_reader = counted
standings.picked_up()
print(*(standing.login.grant + "=" + standing.error.code for standing in standings.of_all()))
print(*started)
"""


@pytest.mark.keyring
@real_keyring
def test_a_status_of_several_grants_starts_one_helper(environment: dict[str, str]) -> None:
    for number, grant in enumerate(("g1", "g2", "g3")):
        login = home.Login(grant, "http://127.0.0.1:9", grant, "alice", "laptop", "os", number, backend=SECRET_SERVICE)
        home.save_login(login)
    script = """
    for grant in g1 g3; do
      printf '%s' "$2" | "$1" -EP -m percall.identity.writer store keyring.backends.SecretService.Keyring $grant >&2
    done && "$1" -EP -c "$3"
    """
    done = subprocess.run(
        [str(WITH_KEYRING), "bash", "-c", script, "_", sys.executable, ITEM, STATUS_AND_HELPERS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    standing, started = done.stdout.splitlines()
    assert standing == "g3=broker.unreachable g2=keyring.item_missing g1=broker.unreachable"
    assert started == "('g3', 'g2', 'g1')"


@pytest.mark.parametrize("theirs", [0, 1, PRIME - 1, PRIME, PRIME + 1])
def test_a_session_with_the_keyring_under_a_key_that_all_know_is_refused(theirs: int) -> None:
    with pytest.raises(ValueError, match="known to all"):
        secret_service._shared(theirs, 7)


@pytest.mark.keyring
@real_keyring
def test_a_probe_leaves_nothing_behind(environment: dict[str, str]) -> None:
    count = (
        "import secretstorage as s; c = s.get_default_collection(s.dbus_init()); print(len(list(c.get_all_items())))"
    )
    script = '"$1" -EP -m percall.identity.writer probe >/dev/null && "$1" -c "$2"'
    done = subprocess.run(
        [str(WITH_KEYRING), "bash", "-c", script, "_", sys.executable, count],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "0"


@pytest.mark.keyring
@real_keyring
def test_a_missing_item_is_named(environment: dict[str, str]) -> None:
    command = f"'{sys.executable}' -EP -m percall.identity.reader g1 | tee /dev/stderr; exit ${{PIPESTATUS[0]}}"
    error = ask([str(WITH_KEYRING), "bash", "-c", command], environment)
    assert error["code"] == "keyring.item_missing"
    assert "percall login" in error["next_step"]


@pytest.mark.keyring
@real_keyring
def test_a_locked_keyring_is_named_with_the_explicit_choice(environment: dict[str, str]) -> None:
    lock = "import secretstorage as s; s.get_default_collection(s.dbus_init()).lock()"
    script = '"$1" -c "$2" && "$1" -EP -m percall.identity.writer probe'
    error = ask([str(WITH_KEYRING), "bash", "-c", script, "_", sys.executable, lock], environment)
    assert error["code"] == "keyring.locked"
    assert "--keyring file" in error["next_step"]


def test_no_keyring_at_all_is_named_with_the_explicit_choice(environment: dict[str, str]) -> None:
    error = ask(helper("writer", "probe"), environment)
    assert error["code"] == "keyring.missing"
    assert "--keyring file" in error["next_step"]


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        ("keyring.backends.null.Keyring", "keyring.refused"),
        ("keyring.backends.fail.Keyring", "keyring.missing"),
        ("keyring.backends.chainer.ChainerBackend", "keyring.missing"),
        ("plaintext_backend.PlaintextKeyring", "keyring.refused"),
        ("no.such.Backend", "keyring.missing"),
    ],
)
def test_a_configured_backend_that_is_not_the_systems_is_refused(
    environment: dict[str, str], backend: str, code: str, tmp_path: Path
) -> None:
    (tmp_path / "plaintext_backend.py").write_text(
        "import keyring.backend\n"
        "class PlaintextKeyring(keyring.backend.KeyringBackend):\n"
        "    priority = 9\n"
        "    def get_password(self, service, username): return None\n"
        "    def set_password(self, service, username, password): open('kept', 'w').write(password)\n"
        "    def delete_password(self, service, username): pass\n"
    )
    settings = tmp_path / "keyring"
    settings.mkdir()
    (settings / "keyringrc.cfg").write_text(f"[backend]\ndefault-keyring={backend}\nkeyring-path={tmp_path}\n")
    error = ask(helper("writer", "probe"), environment | {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert error["code"] == "keyring.missing", "what is configured elsewhere does not count"
    shutil.move(settings, tmp_path / "config" / "python_keyring")
    error = ask(helper("writer", "probe"), environment | {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert error["code"] == code
    assert "--keyring file" in error["next_step"]
    assert not list(tmp_path.rglob("kept"))


def test_a_chain_with_one_bad_member_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "chain_with_plaintext.py").write_text(
        "from keyring.backends import SecretService, chainer, null\n"
        "class Chain(chainer.ChainerBackend):\n"
        "    backends = [SecretService.Keyring(), null.Keyring()]\n"
    )
    settings = tmp_path / "config" / "python_keyring"
    settings.mkdir(parents=True)
    (settings / "keyringrc.cfg").write_text(
        f"[backend]\ndefault-keyring=chain_with_plaintext.Chain\nkeyring-path={tmp_path}\n"
    )
    error = ask(helper("writer", "probe"), environment | {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    assert error["code"] == "keyring.refused"
    assert "keyring.backends.null.Keyring" in error["message"]


@pytest.fixture
def silent_bus(tmp_path: Path) -> Iterator[str]:
    """A session bus that lets everyone in and then never says a word."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "bus"))
        listening.listen()
        porter = threading.Thread(target=_welcome, args=(listening,))
        porter.start()
        yield f"unix:path={tmp_path / 'bus'}"
        listening.shutdown(socket.SHUT_RDWR)
        porter.join()


def _welcome(listening: socket.socket) -> None:
    with contextlib.ExitStack() as guests, contextlib.suppress(OSError):
        while True:
            guest = guests.enter_context(listening.accept()[0])
            while b"AUTH" not in guest.recv(1024):
                pass
            guest.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")


@pytest.mark.parametrize("name", ["reader g1", "writer probe"])
def test_a_hanging_keyring_ends_in_a_named_error_after_our_own_time_out(
    environment: dict[str, str], silent_bus: str, name: str
) -> None:
    began = time.monotonic()
    hanging = environment | {"DBUS_SESSION_BUS_ADDRESS": silent_bus, "PERCALL_KEYRING_TIMEOUT": "1.5"}
    error = ask(helper(*name.split()), hanging)
    assert error["code"] == "keyring.timeout"
    assert "--keyring file" in error["next_step"]
    assert time.monotonic() - began < 20


def test_one_time_out_holds_for_all_that_a_helper_was_asked(environment: dict[str, str], silent_bus: str) -> None:
    home.save_login(home.Login("g2", "https://b", "default", "alice", "laptop", "os", 2, backend=SECRET_SERVICE))
    hanging = environment | {"DBUS_SESSION_BUS_ADDRESS": silent_bus, "PERCALL_KEYRING_TIMEOUT": "1"}
    done = subprocess.run(helper("reader", "g1", "g2"), env=hanging, capture_output=True, timeout=60, check=False)
    answers = done.stdout.splitlines()
    assert len(answers) == 2
    for answer in answers:
        with pytest.raises(IdentityError) as caught:
            identity.read_answer(answer)
        assert caught.value.code == "keyring.timeout"


@pytest.mark.usefixtures("silent_bus")
def test_the_sessions_bus_is_found_without_its_variable(environment: dict[str, str]) -> None:
    error = ask(helper("reader", "g1"), environment | {"PERCALL_KEYRING_TIMEOUT": "1.5"})
    assert error["code"] == "keyring.timeout", "it found the bus under XDG_RUNTIME_DIR and waited for it"


def test_the_reader_opens_a_sealed_file_with_the_passphrase_file_that_login_recorded(
    environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_text("correct horse battery\n")
    sealed("g2", ITEM, b"correct horse battery")
    login = home.Login("g2", "https://b", "default", "alice", "laptop", "file", 2, passphrase_file=str(path))
    home.save_login(login)
    assert ask(helper("reader", "g2"), environment)["token"] == "header.claims.signature"
    answer, _ = identity.start_reader("g2").communicate()
    assert identity.read_answer(answer).seed == b"s" * 32
    path.chmod(0o644)
    assert ask(helper("reader", "g2"), environment)["code"] == "passphrase.exposed"


def test_the_reader_never_asks_at_a_terminal(environment: dict[str, str]) -> None:
    home.save_login(home.Login("g3", "https://b", "default", "alice", "laptop", "file", 3))
    sealed("g3", ITEM, b"correct horse battery")
    error = ask(helper("reader", "g3"), environment)
    assert error["code"] == "passphrase.missing"
    assert "percall unlock" in error["next_step"]


def test_a_readers_error_is_raised_where_it_is_awaited() -> None:
    answer = b'{"error":{"code":"keyring.locked","message":"The keyring is locked.","next_step":"Unlock it."}}\n'
    with pytest.raises(IdentityError, match="Unlock it") as caught:
        identity.read_answer(answer)
    assert caught.value.code == "keyring.locked"


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b"nonsense", b'{"seed":1,"token":"x"}', b'{"error":7}'])
def test_a_reader_that_dies_or_babbles_is_an_identity_error(answer: bytes) -> None:
    with pytest.raises(IdentityError):
        identity.read_answer(answer)


def test_an_item_that_windows_could_not_keep_is_refused() -> None:
    with pytest.raises(IdentityError) as caught:
        identity.item(identity.Identity(b"s" * 32, "t" * 1280))
    assert caught.value.code == "keyring.too_long"


def test_an_identity_shows_no_secret() -> None:
    assert repr(identity.Identity(b"s" * 32, "token")) == "Identity()"

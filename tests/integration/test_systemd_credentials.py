"""Key-encryption keys as systemd hands them to a unit: a folder that is given and never written."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from harness.processes import Broker, UnusualBroker, command, keyed_entry
from harness.upstream import CANARY

if TYPE_CHECKING:
    from harness.upstream import Upstream

HOW_TO = (Path(__file__).parents[2] / "docs" / "how-to" / "key-encryption-keys.md").read_text()


def credential(folder: Path, name: str) -> None:
    """A key made as the how-to makes one, up to where systemd encrypts it."""
    (making,) = re.findall(r"^# (head -c 32 .*?) \| systemd-creds", HOW_TO, re.MULTILINE)
    made = subprocess.run(["/bin/sh", "-c", making], capture_output=True, check=True).stdout
    (folder / name).touch(0o400)
    (folder / name).chmod(0o600)
    (folder / name).write_bytes(made)
    (folder / name).chmod(0o440)  # as systemd's access list shows


def given(folder: Path) -> dict[str, str]:
    folder.mkdir(mode=0o500)
    return {"CREDENTIALS_DIRECTORY": str(folder), "PERCALL_BROKER_KEY_SOURCE": "systemd"}


def test_a_broker_lives_by_its_units_credentials_and_rotates_to_a_new_one(tmp_path: Path, upstream: Upstream) -> None:
    unit = tmp_path / "credentials"
    extra = given(unit)
    credential(unit, "kek-0001.key")
    with UnusualBroker(tmp_path / "b", extra=extra) as broker:
        broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
        assert not (tmp_path / "b" / "broker" / "keys").exists()
        assert broker.rows("status")[0]["key_encryption_keys"] == ["kek-0001"]
        broker.stop()
        credential(unit, "kek-0002.key")
        broker.start()
        done = command("percall-broker", "key", "rotate", environment=broker.environment)
        assert done.stdout.startswith("kek-0002 wraps ")
        assert sorted(path.name for path in unit.iterdir()) == ["kek-0001.key", "kek-0002.key"], "systemd's, not ours"
        broker.stop()
        (unit / "kek-0001.key").unlink()
        broker.start()
        laptop = broker.enrol("alice", "keyed")
        with laptop.client("keyed") as client:
            client.initialize()
            assert client.call_text("get_item").startswith("200 ")


def test_a_broker_moves_from_files_to_credentials_with_the_same_keys(tmp_path: Path, upstream: Upstream) -> None:
    unit = tmp_path / "credentials"
    extra = given(unit)
    with Broker(tmp_path / "b") as broker:
        broker.add_server("keyed", keyed_entry(upstream.url), CANARY)
        laptop = broker.enrol("alice", "keyed")
        broker.stop()
        keys = tmp_path / "b" / "broker" / "keys"
        shutil.copy(keys / "kek-0001.key", unit)
        shutil.rmtree(keys)
        broker.extra |= extra
        broker.start()
        with laptop.client("keyed") as client:
            client.initialize()
            assert client.call_text("get_item").startswith("200 ")


def test_a_unit_without_its_credential_and_one_that_others_may_read_are_refused(tmp_path: Path) -> None:
    unit = tmp_path / "credentials"
    environment = Broker(tmp_path / "b").environment | {"PERCALL_BROKER_KEY_SOURCE": "systemd"}
    outside = command("percall-broker", "init", environment=environment, check=False)
    assert (outside.returncode, "LoadCredentialEncrypted" in outside.stderr) == (2, True)
    environment |= given(unit)
    without = command("percall-broker", "init", environment=environment, check=False)
    assert (without.returncode, "There is no key" in without.stderr) == (1, True)
    credential(unit, "kek-0001.key")
    (unit / "kek-0001.key").chmod(0o444)
    shared = command("percall-broker", "init", environment=environment, check=False)
    assert (shared.returncode, "Others may read" in shared.stderr) == (1, True)
    (unit / "kek-0001.key").chmod(0o400)
    assert command("percall-broker", "init", environment=environment).returncode == 0

"""Checks the files of this folder as far as this machine can, and says what it could not."""

from __future__ import annotations

import plistlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST_EXPOSED = 2.0  # of 10, by `systemd-analyze security`
PRIVATE = 0o077
INSTRUCTIONS = {
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "SHELL"),
    *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}


def unit() -> list[str]:
    """What systemd says of the unit, read with a command that exists here."""
    if not shutil.which("systemd-analyze"):
        return skipped("percall-broker.service", "systemd is not here")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "percall-broker.service"
        text = (HERE / copy.name).read_text()
        copy.write_text(text.replace("/opt/percall/bin/percall-broker", shutil.which("true") or "/bin/true"))
        verified = analyze("verify", "--man=no", str(copy))
        exposure = analyze("security", "--offline=true", f"--threshold={int(MOST_EXPOSED * 10)}", str(copy))
    found = re.search(r"exposure level for .*?: ([0-9.]+)", exposure.stdout)
    print(f"percall-broker.service: verified; exposure {found[1] if found else '?'} of 10")
    wrong = [verified.stdout + verified.stderr] if verified.returncode else []
    return [*wrong, *([exposure.stdout + exposure.stderr] if exposure.returncode else [])]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One run of systemd-analyze."""
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def plist() -> list[str]:
    """Whether the property list can be read, and names the command."""
    with (HERE / "com.percall.broker.plist").open("rb") as file:
        found = plistlib.load(file)
    print("com.percall.broker.plist: read" + ("" if sys.platform == "darwin" else "; launchd is not here to try it"))
    wanted = found["ProgramArguments"][1] == "serve" and found["UserName"] != "root" and found["Umask"] == PRIVATE
    return [] if wanted else ["com.percall.broker.plist: it does not serve as a user of its own"]


def container() -> list[str]:
    """Instructions that exist, versions that are named, no root, a health check. No engine builds it here."""
    if shutil.which("hadolint"):
        done = subprocess.run(["hadolint", str(HERE / "Dockerfile")], capture_output=True, text=True, check=False)
        return [done.stdout] if done.returncode else []
    text = (HERE / "Dockerfile").read_text()
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip() and not line.startswith("#")]
    words = [line.split(maxsplit=1) for line in lines]
    wrong = [f"Dockerfile: {word[0]} is no instruction" for word in words if word[0] not in INSTRUCTIONS]
    stages = {line.split()[-1] for line in lines if line.startswith("FROM") and " AS " in line}
    for name, rest in words:
        if name == "FROM" and rest.split()[0] not in stages and not re.search(r":\d+\.\d+\.\d+", rest):
            wrong.append(f"Dockerfile: {rest} names no version")
    last = text[text.rindex("\nFROM ") :]
    users = re.findall(r"^USER (\S+)", last, re.MULTILINE)
    if not users or users[-1].split(":")[0] in {"root", "0"}:
        wrong.append("Dockerfile: it runs as root")
    if "HEALTHCHECK" not in last:
        wrong.append("Dockerfile: it has no health check")
    print("Dockerfile: read; no engine is here to build it")
    return wrong


def skipped(what: str, why: str) -> list[str]:
    """Says what was not checked."""
    print(f"{what}: not checked: {why}")
    return []


if __name__ == "__main__":
    wrong = [*unit(), *plist(), *container()]
    sys.exit("\n".join(wrong) if wrong else 0)

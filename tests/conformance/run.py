"""`make conformance`: the official suite, direct and through Percall; prints a table, and fails where Percall does."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from conformance import suite, ways


def lost(columns: dict[str, dict[str, suite.Scenario]], *, scored: bool) -> list[str]:
    """What passes directly and not through Percall."""
    direct = columns["direct"]
    return [
        f"{name} through {way}: {', '.join(found[name].failures) if name in found else 'did not run'}"
        for way, found in columns.items()
        for name in direct
        if direct[name].passes and scored == (not direct[name].unscored)
        if not (name in found and found[name].passes)
    ]


def table(revision: str, columns: dict[str, dict[str, suite.Scenario]]) -> None:
    """One row a scenario; a failing one names its checks."""
    direct = columns["direct"]
    print(f"\n{revision:<44}" + "".join(f"{way:>10}" for way in columns))
    for required in (True, False):
        names = [name for name in direct if bool(direct[name].unscored) != required]
        for name in names:
            marks = ["pass" if found[name].passes else "fail" for found in columns.values() if name in found]
            note = f" ({direct[name].unscored})" if not required else ""
            print(f"{name + note:<44}" + "".join(f"{mark:>10}" for mark in marks))
        passed = [sum(found[name].passes for name in names if name in found) for found in columns.values()]
        kind = "required" if required else "not scored"
        print(f"{kind + f', of {len(names)}':<44}" + "".join(f"{count:>10}" for count in passed))


def section(title: str, lines: list[str]) -> None:
    """A list under its title."""
    print(f"\n{title}:" + ("".join(f"\n  {line}" for line in lines) if lines else " nothing"))


def main() -> int:
    """Run everything; the exit code says whether Percall has lost a required scenario."""
    required: list[str] = []
    others: list[str] = []
    failing: list[str] = []
    with tempfile.TemporaryDirectory(prefix="percall-conformance-") as name, ExitStack() as stack:
        folder = Path(name)
        urls = {way: stack.enter_context(start(folder / way)) for way, start in ways.ALL.items()}
        for revision in suite.REVISIONS:
            columns = {way: suite.run(url, revision, folder / way / revision) for way, url in urls.items()}
            table(revision, columns)
            required += [f"{revision} {what}" for what in lost(columns, scored=True)]
            others += [f"{revision} {what}" for what in lost(columns, scored=False)]
            failed = [one for one in columns["direct"].values() if not one.passes]
            failing += [f"{revision} {one.name}: {', '.join(one.failures)}" for one in failed]
    section("Fails directly", failing)
    section("Required, and lost through Percall", required)
    section("Not scored, and lost through Percall", others)
    return 1 if required else 0


if __name__ == "__main__":
    sys.exit(main())

"""Three people share a server and no key; one leaves, and nobody else notices."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stage import TIME, Stage

PEOPLE = ("ada", "ben", "cleo")
NOW = {"timezone": "UTC"}


def main() -> None:
    """The story of README.md."""
    with ExitStack() as stack:
        stage = Stage(stack)
        stage.administer("server", "add", "time", "--from", str(TIME))
        invites = {name: stage.administer("person", "invite", name)["invite"] for name in PEOPLE}
        stage.administer("group", "add", "team", *PEOPLE)
        grant = ("grant", "create", "--group", "team", "--server", "time", "--tools", "get_*", "--expires", "30d")
        stage.administer(*grant)
        laptops = {name: stage.login(name, invite) for name, invite in invites.items()}
        clients = {name: stage.client(["percall", "run", "time"], laptop) for name, laptop in laptops.items()}
        for name, client in clients.items():
            print(f"{name}: {'served' if 'datetime' in client.call('get_current_time', NOW) else 'refused'}")
        stage.administer("group", "remove", "team", "ben")
        print("ben leaves the team")
        for name, client in clients.items():
            answer = client.call("get_current_time", NOW)
            print(f"{name}: {'served' if 'datetime' in answer else answer}")


if __name__ == "__main__":
    main()

"""The helper process that asks the operating system's keyring: one question on standard input, one answer, and it ends.

`percall.identity` knows which keyrings are the system's own; the broker's process never loads it.
"""

from __future__ import annotations

import json
import sys

from percall import own_memory
from percall.errors import IdentityError
from percall.identity import keyring_os


def main() -> None:
    """Reads `{"item", "text"?}`: with a text, keeps it; without, answers with what is kept."""
    own_memory.close()
    asked = json.load(sys.stdin)
    item = f"percall-broker {asked['item']}"
    answer: dict[str, object]
    try:
        backend = keyring_os.choose()
        if "text" in asked:
            keyring_os.put(backend, item, asked["text"])
            answer = {}
        else:
            answer = {"text": keyring_os.get(backend, item)}
    except IdentityError as error:
        answer = {"error": _told(error)}
    except Exception as error:  # noqa: BLE001 - the outermost edge: backends raise what they like
        answer = {"error": _told(keyring_os.explain(error))}
    json.dump(answer, sys.stdout)


def _told(error: IdentityError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "next_step": error.next_step}


if __name__ == "__main__":
    main()

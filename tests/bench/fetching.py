"""An MCP server with one tool that fetches a path of an API and says how much came; keeps its connection.

    python tests/bench/fetching.py [http.client | httpx]

http.client on plain loopback is quicker than what real servers use: it shows the most that a download could reach.
"""

import http.client
import os
import sys
from urllib.parse import urlsplit

import echo_stdio

HEADERS = {"Authorization": "Bearer " + os.environ["API_KEY"]}


def by_http_client() -> object:
    base = urlsplit(os.environ["API_URL"])
    connection = http.client.HTTPConnection(base.hostname or "", base.port, timeout=60)

    def fetch(path: str) -> tuple[int, int]:
        connection.request("GET", base.path + path, headers=HEADERS)
        answer = connection.getresponse()
        size = 0
        while chunk := answer.read(1 << 20):
            size += len(chunk)
        return answer.status, size

    return fetch


def by_httpx() -> object:
    import httpx  # noqa: PLC0415 - the other way is measured without it

    client = httpx.Client(timeout=60, headers=HEADERS)

    def fetch(path: str) -> tuple[int, int]:
        answer = client.get(os.environ["API_URL"] + path)
        return answer.status_code, len(answer.content)

    return fetch


fetch = by_httpx() if sys.argv[1:] == ["httpx"] else by_http_client()


def handle(message: dict) -> dict | None:
    if message.get("method") == "tools/call":
        arguments = message["params"]["arguments"]
        status, size = fetch(arguments["message"])
        if status != 200:
            sys.exit(f"status {status}")
        arguments["message"] = f"{size} bytes"
    return plain(message)


plain = echo_stdio.handle
echo_stdio.handle = handle

if __name__ == "__main__":
    echo_stdio.main()

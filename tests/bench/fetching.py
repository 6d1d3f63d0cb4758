"""An MCP server with one tool that fetches a path of an API and says how much came; keeps its connection."""

import http.client
import os
import sys
from urllib.parse import urlsplit

import echo_stdio

base = urlsplit(os.environ["API_URL"])
connection = http.client.HTTPConnection(base.hostname or "", base.port, timeout=60)


def fetch(path: str) -> str:
    connection.request("GET", base.path + path, headers={"Authorization": "Bearer " + os.environ["API_KEY"]})
    answer = connection.getresponse()
    size = 0
    while chunk := answer.read(1 << 20):
        size += len(chunk)
    if answer.status != 200:
        sys.exit(f"status {answer.status}")
    return f"{size} bytes"


def handle(message: dict) -> dict | None:
    if message.get("method") == "tools/call":
        message["params"]["arguments"]["message"] = fetch(message["params"]["arguments"]["message"])
    return plain(message)


plain = echo_stdio.handle
echo_stdio.handle = handle

if __name__ == "__main__":
    echo_stdio.main()

"""A small Jira on loopback: it answers only to the real key, which it reads from standard input, never from argv."""

from __future__ import annotations

import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ISSUE = {
    "id": "1",
    "key": "DEMO-1",
    "fields": {
        "summary": "Move the keys out of everyone's dotfiles",
        "status": {"name": "Open"},
        "issuetype": {"name": "Task"},
    },
}
ANSWERS = {"/rest/api/2/issue/DEMO-1": ISSUE, "/rest/api/2/field": []}


class Jira(BaseHTTPRequestHandler):
    """Bearer authentication, two resources, and a line on standard output for each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    key = ""

    def log_message(self, *_: object) -> None:
        """The lines below say it better."""

    def answer(self) -> None:
        """Any method on any path."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = hmac.compare_digest(given.encode(), self.key.encode())
        path = urlsplit(self.path).path
        print(f"{self.command} {path} {'real key' if known else 'no key'}", flush=True)
        status, value = (200, ANSWERS.get(path, {})) if known else (401, {"message": "who are you?"})
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names


if __name__ == "__main__":
    Jira.key = sys.stdin.readline().strip()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Jira)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()

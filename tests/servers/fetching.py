"""An MCP server over stdio whose one tool makes the HTTP request that its arguments describe.

KEY in a URL, a header or a body becomes API_KEY, and API in a URL becomes API_URL, as a server would write them; `host`
then stands in for the API's own. It knows nothing of Percall: `urllib` and `httpx` find their proxy and their
certificates by themselves.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

KEY = os.environ["API_KEY"]


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def filled(text: str) -> str:
    return text.replace("API", os.environ.get("API_URL", "")).replace("KEY", KEY)


def fetch(wanted: dict[str, Any]) -> dict[str, Any]:
    headers = {name: filled(value) for name, value in wanted.get("headers", {}).items()}
    if "user" in wanted:
        pair = f"{wanted['user']}:{KEY}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    body = filled(wanted["body"]).encode() if "body" in wanted else None
    send = with_httpx if wanted.get("via") == "httpx" else with_urllib
    try:
        url = filled(wanted["url"]).replace("api.example.com", wanted.get("host", "api.example.com"))
        return send(wanted.get("method", "GET"), url, headers, body, bool(wanted.get("follow")))
    except Exception as error:  # noqa: BLE001 - whatever the library makes of a refusal
        return {"status": 0, "text": f"{type(error).__name__}: {error}", "headers": {}}


def with_urllib(method: str, url: str, headers: dict[str, Any], body: bytes | None, follow: bool) -> dict[str, Any]:
    request = urllib.request.Request(url, body, headers, method=method)
    opener = urllib.request.build_opener() if follow else urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(request, timeout=30) as answer:
            return {"status": answer.status, "text": answer.read().decode(), "headers": dict(answer.headers)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "text": error.read().decode(), "headers": dict(error.headers)}


def with_httpx(method: str, url: str, headers: dict[str, Any], body: bytes | None, follow: bool) -> dict[str, Any]:
    import httpx  # noqa: PLC0415 - most tests need none

    answer = httpx.request(method, url, headers=headers, content=body, follow_redirects=follow, timeout=30)
    return {"status": answer.status_code, "text": answer.text, "headers": dict(answer.headers)}


def result_of(message: dict[str, Any]) -> dict[str, Any]:
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        version = params["protocolVersion"]
        return {
            "protocolVersion": version,
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "fetching", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [{"name": "fetch", "description": "fetch", "inputSchema": {"type": "object"}}]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": json.dumps(fetch(params["arguments"]))}], "isError": False}
    return {}


def main() -> None:
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" in message:
            frame = {"jsonrpc": "2.0", "id": message["id"], "result": result_of(message)}
            sys.stdout.buffer.write(json.dumps(frame).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

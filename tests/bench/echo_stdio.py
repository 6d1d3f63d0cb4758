"""An echo MCP server over stdio: standard library, blocking reads, nothing to wait for but the wrapper in front."""

import json
import sys

INFO = {"name": "echo", "version": "1"}
TOOL = {"name": "echo", "description": "Echoes its message.", "inputSchema": {"type": "object"}}


def handle(message: dict) -> dict | None:
    """One JSON-RPC message in, one answer out; None for a notification."""
    method, identifier, params = message.get("method"), message.get("id"), message.get("params") or {}
    if identifier is None:
        return None
    if method == "tools/call":
        text = str((params.get("arguments") or {}).get("message", ""))
        result = {"content": [{"type": "text", "text": text}], "isError": False}
    elif method == "initialize":
        result = {"protocolVersion": params.get("protocolVersion"), "capabilities": {"tools": {}}, "serverInfo": INFO}
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    else:
        return {"jsonrpc": "2.0", "id": identifier, "error": {"code": -32601, "message": "Method not found"}}
    return {"jsonrpc": "2.0", "id": identifier, "result": result}


def main() -> None:
    for line in sys.stdin.buffer:
        answer = handle(json.loads(line))
        if answer is not None:
            sys.stdout.buffer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

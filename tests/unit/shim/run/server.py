"""A child server for the shim's tests: its tools do on demand what servers should not."""

import json
import os
import pathlib
import subprocess
import sys
import time


def write(frame):
    sys.stdout.buffer.write(json.dumps(frame).encode() + b"\n")
    sys.stdout.buffer.flush()


def text(value, **more):
    return {"content": [{"type": "text", "text": value}], **more}


def call(identifier, name, arguments):
    if name == "die":
        os._exit(9)
    if name.startswith("short") or name == "silent":
        return None
    if name == "garbage":
        sys.stdout.buffer.write(b"no frame\n[1]\n\xff\n\n")
    if name == "flood":
        for _ in range(20_000):
            sys.stderr.write("flood " * 20 + "\n")
    if name == "sample":
        write({"jsonrpc": "2.0", "id": "s1", "method": "sampling/createMessage", "params": {}})
        return text(sys.stdin.buffer.readline().decode())
    if name == "hidden_sample":
        sys.stdout.buffer.write(
            b'{"jsonrpc":"2.0","id":"s2","method":"sampling/createMessage","method":"roots/list"}\n'
        )
    if name == "elicit":
        write({"jsonrpc": "2.0", "id": "e1", "method": "elicitation/create", "params": {}})
        return text(sys.stdin.buffer.readline().decode())
    if name == "wants_sampling":
        return {"resultType": "input_required", "inputRequests": {"a": {"method": "sampling/createMessage"}}}
    if name == "forge":
        for forged in (
            {"id": f" {identifier}"},
            {"id": identifier, "method": None},
            {"id": identifier, "method": ["sampling/createMessage"]},
            {"id": identifier, "method": "ping"},
            {"ID": identifier},
            {"id": identifier + 1},
            {"id": None},
        ):
            write({"jsonrpc": "2.0", **forged, "result": text("FORGED")})
    if name == "wants_sampling_twice_said":
        asked = b'"inputRequests":{"a":{"method":"sampling/createMessage"}},"input\\u0052equests":{}'
        if arguments.get("escaped"):
            asked = asked.replace(b"R", b"\\u0052")
        sys.stdout.buffer.write(b'{"jsonrpc":"2.0","id":%s,"result":{%s}}\n' % (json.dumps(identifier).encode(), asked))
        sys.stdout.buffer.flush()
        return None
    if name == "strange":
        own = str(identifier).encode()
        for line in (
            b'{"jsonrpc":"2.0","id":1e999,"method":"roots/list"}',
            b'{"id":007,' + b" " * (17 * 1024 * 1024) + b"}",
            b'{"jsonrpc":"2.0","method":"notifications/message","params":[\r{"id":%s,"result":{}}\r]}' % own,
        ):
            sys.stdout.buffer.write(line + b"\n")
    if name == "half_a_character":
        return {"content": [{"type": "text", "text": "\ud83d \x1b[0m"}]}
    if name == "environment":
        return text(json.dumps(dict(os.environ)))
    if name == "grandchild":
        return text(str(subprocess.Popen(["/bin/sleep", "600"]).pid))
    if name == "closed_output":
        os.close(1)
        time.sleep(600)
    if name == "closed_input":
        write({"jsonrpc": "2.0", "id": identifier, "result": text(name)})
        os.close(0)
        time.sleep(600)
    if name == "deaf":
        write({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": name}})
        time.sleep(600)
    if name == "slow":
        time.sleep(0.2)  # a tool whose call is still open when the next thing happens
    if name == "latin":
        answered = json.dumps({"jsonrpc": "2.0", "id": identifier, "result": text("caf\xe9")}, ensure_ascii=False)
        sys.stdout.buffer.write(answered.encode("latin-1") + b"\n")
        sys.stdout.buffer.flush()
        return None
    if name == "huge":
        sys.stdout.buffer.write(
            b'{"result":{"content":[],"id":1,"x":"'
            + b"x" * (17 * 1024 * 1024)
            + b'"},"jsonrpc":"2.0","id":%s}\n' % json.dumps(identifier).encode()
        )
        return None
    return text(str(arguments.get("text", name)))


def answer(frame, line):
    method, identifier = frame.get("method"), frame.get("id")
    params = frame.get("params") or {}
    if "raw" in params:
        result = params["raw"].encode("latin-1")
        sys.stdout.buffer.write(b'{"jsonrpc":"2.0","id":%d,"result":%s}\n' % (identifier, result))
        sys.stdout.buffer.flush()
        return None
    if method == "tools/call":
        return call(identifier, params.get("name"), params.get("arguments") or {})
    if method == "subscriptions/listen" and params.get("over"):
        return {"resultType": "input_required", "inputRequests": {"a": {"method": "sampling/createMessage"}}}
    if method == "subscriptions/listen":
        return None  # until it is cancelled
    if method == "tools/list" and params.get("cursor") == "half":
        return {"tools": [{"name": "get_half", "description": "\ud83d"}, {"name": "get_item"}]}
    if method == "tools/list":
        return {"tools": [{"name": name} for name in ("echo", "delete_all")], "cacheScope": "public", "extra": [1.50]}
    if method == "prompts/list":
        return {"prompts": [{"name": "sum\ud83d"}, {"name": "secret"}]}
    if method == "resources/list":
        return {"resultType": "input_required", "inputRequests": {"a": {"method": "sampling/createMessage"}}}
    if method == "initialize" and pathlib.Path(os.environ.get("HOME", "."), "silent").exists():
        return None
    if method == "initialize":
        return {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "child", "version": "1"}}
    return {"line": line.decode()}


for line in sys.stdin.buffer:
    frame = json.loads(line)
    if "method" in frame and "id" in frame:
        result = answer(frame, line)
        if result is not None:
            write({"jsonrpc": "2.0", "id": frame["id"], "result": result})
    elif frame.get("method") == "notifications/cancelled":
        sys.stderr.write("cancelled " + json.dumps(frame["params"]) + "\n")
        sys.stderr.flush()

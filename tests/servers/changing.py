"""A small stdio server whose tool is described by the file that argv names, as it is when the server starts."""

import json
import sys
from pathlib import Path

TOOLS = json.loads(Path(sys.argv[1]).read_text())

for line in sys.stdin:
    frame = json.loads(line)
    method = frame.get("method")
    if method == "initialize":
        info = {"name": "changing", "version": "1"}
        version = frame["params"]["protocolVersion"]
        result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": TOOLS}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": "called"}], "isError": False}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": frame["id"], "result": result}), flush=True)

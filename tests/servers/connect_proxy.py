"""A company's proxy: CONNECT alone, for whoever shows the credentials. `python connect_proxy.py [USER:PASSWORD]`.

Prints its port, then a line for each request: its target, and whether it was let through. Names under `.test` are on
this machine, so that nobody but the proxy could look them up.
"""

import base64
import os
import socket
import sys
import threading


def say(*words):
    """In one write, since several connections speak at once."""
    os.write(1, (" ".join(words) + "\n").encode())


def serve(client, wanted):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        if not piece:
            return client.close()
        head += piece
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    given = [line.partition(": ")[2] for line in lines if line.lower().startswith("proxy-authorization:")]
    if wanted and given != [wanted]:
        say("refused", target)
        client.sendall(b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n')
        return client.close()
    if method != "CONNECT" or "forbidden" in target:
        say("forbidden", target)
        client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        return client.close()
    host, _, port = target.rpartition(":")
    broker = socket.create_connection(("127.0.0.1" if host.endswith(".test") else host, int(port)))
    say("tunnel", target)
    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    threading.Thread(target=copy, args=(broker, client), daemon=True).start()
    return copy(client, broker)


def copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
expected = f"Basic {base64.b64encode(sys.argv[1].encode()).decode()}" if len(sys.argv) > 1 else ""
while True:
    threading.Thread(target=serve, args=(listening.accept()[0], expected), daemon=True).start()

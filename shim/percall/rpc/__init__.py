"""MCP's JSON-RPC frames as both gates see them, the shim's and the broker's: one reading, one list of what is gated.

Standard library only: the shim imports this on the path of every call.
"""

"""Percall on the laptop: the shim that gates each MCP call, and the commands around it."""

__version__ = "0.2.0"

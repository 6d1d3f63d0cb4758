"""The door to remote MCP servers: each message is decided, then forwarded as it came, with the key."""

"""The clients' own config files: where they lie, which MCP servers they name, and how to edit one without harm."""

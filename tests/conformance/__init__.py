"""The official conformance suite (npm `@modelcontextprotocol/conformance`), run against one URL or another."""

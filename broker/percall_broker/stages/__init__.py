"""The steps of a call, each a file; steps never import one another."""

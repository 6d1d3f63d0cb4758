"""Cryptography; `sodium` is the one module that imports nacl."""

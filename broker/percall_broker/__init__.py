"""Percall's broker: it holds the upstream keys, decides each call, and records it."""

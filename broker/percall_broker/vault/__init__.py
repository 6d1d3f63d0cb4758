"""Upstream keys, sealed."""

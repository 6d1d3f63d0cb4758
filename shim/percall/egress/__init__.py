"""The child's way out: a loopback listener that takes its API requests and hands them to the broker.

It never holds an upstream key; what it passes on carries a placeholder.
"""

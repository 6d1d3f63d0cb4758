"""The broker's way out: checked addresses, strict answers, the key struck out, and streams that can be cut.

Shared by the doors that forward with a key, egress and relay. Decides nothing and holds no key beyond its request.
"""

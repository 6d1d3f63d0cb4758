"""Frozen nouns, errors and the rules that need nothing but them."""

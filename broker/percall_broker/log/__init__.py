"""The record: canonical entries, statements for administrative changes, and the seal on arguments."""

"""What `percall doctor` looks at, from the keyring to each configured server, and what to do about each finding.

Looks as the clients' own `percall run` does: without a terminal, and with the keyring's helper. Changes nothing but the
cache of what the broker says.
"""

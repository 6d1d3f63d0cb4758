"""From a key that was pasted into a client's config to Percall, and back, one server at a time.

A config is at every moment the old one or the new one, and the key is at no moment nowhere: it stays in the config
until the broker has it and the new command has been seen to work. Nothing here prints a key.
"""

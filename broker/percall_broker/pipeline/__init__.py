"""The numbered steps of a call, a request and a settlement."""

"""What the broker tells about itself while it works: figures, and the steps of calls. Never what a call says."""

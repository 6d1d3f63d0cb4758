"""What the broker tells about itself while it works: log, figures, the steps of calls. Never what a call says."""

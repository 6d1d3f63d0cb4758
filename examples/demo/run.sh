#!/bin/sh
# Tells the whole story: `make demo` is this, in an environment that has all of it.
set -eu
exec python3 "$(dirname "$0")/run.py"

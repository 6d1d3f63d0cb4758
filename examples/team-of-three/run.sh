#!/bin/sh
# A broker, a group of three, and one who leaves.
set -eu
exec python3 "$(dirname "$0")/run.py"

#!/bin/sh
# Checks the unit, the property list and the Dockerfile as far as this machine can.
set -eu
exec python3 "$(dirname "$0")/check.py"

#!/bin/sh
# Starts a broker, logs a person in, and starts each server as the config says.
set -eu
cd "$(dirname "$0")"
exec python3 ../stage.py cursor mcp.json

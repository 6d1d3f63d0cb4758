#!/bin/sh
# Checks the policies against the schema, and runs the tests beside them; needs no broker.
set -eu
cd "$(dirname "$0")"
percall-broker policy check rules
percall-broker policy test rules

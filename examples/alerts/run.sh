#!/bin/sh
# Checks the rules and runs their tests. Needs promtool, from Prometheus (Debian: apt-get install prometheus).
set -eu
cd "$(dirname "$0")"
promtool check rules percall.rules.yml
promtool test rules percall.rules.test.yml

#!/bin/sh
# run.sh [REPOSITORY [ENTRIES]]: fails when a key is pasted into a config, or when an entry is not fit to be used.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=${1:-$here/repository}
entries=${2:-$here/entries}
percall scan "$repository"
for entry in "$entries"/*.toml; do
  percall-broker recipe check "$entry"
done

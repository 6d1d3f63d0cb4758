#!/usr/bin/env bash
# with_keyring.sh COMMAND...: runs COMMAND with a real Secret Service (gnome-keyring) on a D-Bus of its own: headless, as
# root or not, with a new keyring in a folder of its own that ends with it. Where the two programs are missing it says
# so, and COMMAND runs without: the tests marked `keyring` then say that they did not run.
set -euo pipefail
if ! command -v dbus-run-session >/dev/null || ! command -v gnome-keyring-daemon >/dev/null; then
  echo "No Secret Service here (Debian: apt-get install --no-install-recommends dbus gnome-keyring): the tests marked 'keyring' will not run." >&2
  exec "$@"
fi
PERCALL_TEST_KEYRING=$(mktemp -d)
export PERCALL_TEST_KEYRING
trap 'rm -rf "$PERCALL_TEST_KEYRING"' EXIT
mkdir -p -m 700 "$PERCALL_TEST_KEYRING/data/keyrings" "$PERCALL_TEST_KEYRING/run"
unset DBUS_SESSION_BUS_ADDRESS DISPLAY WAYLAND_DISPLAY
# Only the daemon sees the folder as its data and run-time directories; COMMAND keeps its own environment, plus the bus.
dbus-run-session -- bash -c '
  printf "a test keyring" | XDG_DATA_HOME="$PERCALL_TEST_KEYRING/data" XDG_RUNTIME_DIR="$PERCALL_TEST_KEYRING/run" \
    gnome-keyring-daemon --unlock --components=secrets --daemonize >/dev/null 2>&1
  exec "$@"' with_keyring "$@"

#!/usr/bin/env bash
# Set up the environment, train the miniature, print a table and draw a picture.
# Usage: scripts/quickstart.sh [--cpu|--gpu] [Hydra overrides]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
device=
case ${1:-} in --cpu) device=cpu; shift ;; --gpu) device=gpu; shift ;; esac
"$root/scripts/setup.sh" $device
exec "$root/.venv/bin/prefix-opd" quickstart "$@"

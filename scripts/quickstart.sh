#!/usr/bin/env bash
# The main job on the embedded miniature, from nothing: environment, data, models, training, table and picture.
# Usage: scripts/quickstart.sh [--cpu|--gpu] [Hydra overrides]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
device=
case ${1:-} in --cpu) device=cpu; shift ;; --gpu) device=gpu; shift ;; esac
"$root/scripts/setup.sh" $device
exec "$root/.venv/bin/prefix-opd" quickstart "$@"

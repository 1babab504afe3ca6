#!/usr/bin/env bash
# Measure, then write the tables and the plots. Usage: benchmarks/run.sh [--small] [--only GROUP …], see --help
# On GPUs: benchmarks/run.sh --gpu [--caps 256 1024] [--minutes 5], see --gpu --help
set -euo pipefail
cd "$(dirname "$0")/.."
device=cpu
if [[ " $* " == *" --gpu "* && " $* " != *" --platform cpu "* ]]; then device=gpu; fi
source scripts/environment.sh $device
exec "$python" -m benchmarks "$@"

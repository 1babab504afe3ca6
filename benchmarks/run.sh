#!/usr/bin/env bash
# Measure, then write the table and the plots. Usage: benchmarks/run.sh [--small] [--only GROUP …], see --help
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh cpu
exec .venv/bin/python -m benchmarks "$@"

#!/usr/bin/env bash
# All tests, in the environment that setup.sh makes. Usage: scripts/test.sh [pytest arguments], e.g. -m 'not e2e', or -n 0 for one process
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh cpu
# Images often set it. Then every process of every run compiles verl, torch and vLLM anew: 12 s of a core each time.
unset PYTHONDONTWRITEBYTECODE
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# two workers, as few machines have less than two cores; how the tests are dealt out: tests/conftest.py
exec .venv/bin/python -m pytest -n 2 "$@"

#!/usr/bin/env bash
# All checks and tests but the slow ones. Usage: scripts/test.sh [pytest arguments], e.g. -m 'not e2e', or
# -m 'slow or not slow' for every test, or -n 0 for one process
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh cpu
# Images often set this variable. Every process would then compile verl, torch and vLLM again: 12 s of a core each time.
unset PYTHONDONTWRITEBYTECODE
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# two workers: most machines have two cores or more; tests/conftest.py distributes the tests
exec .venv/bin/python -m pytest -n 2 -m 'not slow' "$@"

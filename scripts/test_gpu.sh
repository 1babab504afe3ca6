#!/usr/bin/env bash
# The self-test on a GPU: the gradient in bf16, a miniature that learns, a killed run that resumes, two ranks on two GPUs.
# Usage: scripts/test_gpu.sh [pytest arguments], e.g. -k gradient. Without a GPU the tests are skipped.
#   PREFIX_OPD_TEST_PLATFORM=cpu   rehearse on a CPU
#   PREFIX_OPD_PYTHON=python3      use this interpreter, which has all packages, instead of .venv
set -euo pipefail
cd "$(dirname "$0")/.."
export PREFIX_OPD_TEST_PLATFORM=${PREFIX_OPD_TEST_PLATFORM:-gpu}
device=cpu
if [[ $PREFIX_OPD_TEST_PLATFORM == gpu ]] && nvidia-smi -L >/dev/null 2>&1; then device=gpu; fi
source scripts/environment.sh $device
exec "$python" -m pytest tests/gpu "$@"

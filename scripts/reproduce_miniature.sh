#!/usr/bin/env bash
# The paper's comparison in miniature, on real verl without a GPU: results in docs/reproduction. Resumable.
#   bash scripts/reproduce_miniature.sh              every arm, seeds 0 1 2
#   bash scripts/reproduce_miniature.sh --small      the whole path in minutes; results in outputs/reproduction_small.
#     One seed and half of the updates: it shows no spread of the seeds, the schedule ends halfway, and the findings on
#     other prefixes, SeqKD, forward KL and learning rates stay "not measured"
#   bash scripts/reproduce_miniature.sh --only full schedule --seeds 0 1 --updates 60
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh cpu
exec .venv/bin/python -m reproduction "$@"

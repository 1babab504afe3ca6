#!/usr/bin/env bash
# The paper's comparison in miniature, without a GPU. Resumable. Results go to docs/reproduction.
#   bash scripts/reproduce_miniature.sh              every arm, seeds 0 1 2
#   bash scripts/reproduce_miniature.sh --small      the whole path in minutes; results in outputs/reproduction_small
#     One seed, half of the updates, fewer arms. So there is no spread over seeds, the schedule ends halfway, and the
#     findings on other prefixes, SeqKD, forward KL and learning rates are "not measured".
#   bash scripts/reproduce_miniature.sh --only full schedule --seeds 0 1 --updates 60
#   bash scripts/reproduce_miniature.sh --contenders         the schedules of docs/schedules.md at equal FLOP; results in
#     docs/reproduction/contenders.md. --budget FLOP, --only and --seeds narrow it; --task cells takes the second miniature;
#     --lr 1e-4 1e-3 runs them with other learning rates.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh cpu
exec .venv/bin/python -m reproduction "$@"

#!/usr/bin/env bash
# Qwen3-8B-Base learns from Qwen3-8B by on-policy prefix distillation (arXiv 2602.15260).
#   bash scripts/run_prefix_opd_qwen3_8b.sh                                   the prefix schedule, one node of 8 x 80 GB
#   KIND=prefix_256 bash scripts/run_prefix_opd_qwen3_8b.sh trainer.total_training_steps=10
#   DRY_RUN=1 LAYOUT=two_gpus bash scripts/run_prefix_opd_qwen3_8b.sh         checks, plan and command; starts nothing
# Several nodes, on a Ray cluster that runs (or scripts/slurm_prefix_opd.sbatch, which starts one):
#   ray job submit --working-dir . --runtime-env-json '{"env_vars": {"LAYOUT": "multi_node", "TRAIN_FILES": "..."}}' \
#     -- bash scripts/run_prefix_opd_qwen3_8b.sh
# Arguments are Hydra overrides; they win over everything here.
set -euo pipefail

# ---- paths and sizes, each from the environment ----
PAIR=qwen3_8b
KIND=${KIND:-schedule}                    # full, prefix_256, prefix_512, ...: recipe/prefix_opd/config/experiment/qwen3_8b
LAYOUT=${LAYOUT:-node_8x80gb}             # node_8x80gb, two_gpus, multi_node
STUDENT=${STUDENT:-Qwen/Qwen3-8B-Base}     # a folder or a hub id
TEACHER=${TEACHER:-Qwen/Qwen3-8B}
TRAIN_FILES=${TRAIN_FILES:-data/openthoughts3/train.parquet}
VAL_FILES=${VAL_FILES:-data/aime2024/test.parquet}
STUDENT_NODES=${STUDENT_NODES:-}          # empty: as the layout says
STUDENT_GPUS=${STUDENT_GPUS:-}            # of each of these nodes
TEACHER_NODES=${TEACHER_NODES:-}
TEACHER_GPUS=${TEACHER_GPUS:-}
NAME=${NAME:-${PAIR}_$KIND}
OUTPUT=${OUTPUT:-outputs}                 # the run's folder is $OUTPUT/$NAME
# ----------------------------------------------------

source "$(dirname "${BASH_SOURCE[0]}")/launch_prefix_opd.sh" "$@"

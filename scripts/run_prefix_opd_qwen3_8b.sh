#!/usr/bin/env bash
# Qwen3-8B-Base learns from Qwen3-8B by on-policy prefix distillation (arXiv 2602.15260).
#   bash scripts/run_prefix_opd_qwen3_8b.sh                   the prefix schedule on one node of 8 x 80 GB
# Variables, dry runs and several nodes: see scripts/launch_prefix_opd.sh
set -euo pipefail
PAIR=qwen3_8b
STUDENT=${STUDENT:-Qwen/Qwen3-8B-Base}   # a folder or a hub id
TEACHER=${TEACHER:-Qwen/Qwen3-8B}
source "$(dirname "${BASH_SOURCE[0]}")/launch_prefix_opd.sh" "$@"

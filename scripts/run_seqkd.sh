#!/usr/bin/env bash
# SeqKD, the paper's off-policy baseline: verl's SFT trainer on the responses of OpenThoughts3.
#   prefix-opd prepare openthoughts3 --responses 7 --from DIR      keeps 7 responses of each of 30.7k questions
#   bash scripts/run_seqkd.sh                                      1 500 steps on 8 GPUs
#   CONFIG=seqkd_prefix STUDENT=Qwen/Qwen3-1.7B-Base bash scripts/run_seqkd.sh trainer.total_training_steps=300
#   DRY_RUN=1 bash scripts/run_seqkd.sh                            print the composed config and the command; start nothing
# Arguments are Hydra overrides; they take precedence over everything here.
set -euo pipefail

# ---- paths and sizes; set any of them as an environment variable ----
CONFIG=${CONFIG:-seqkd}                  # seqkd, seqkd_prefix or seqkd_off (then set TRAIN_FILES)
STUDENT=${STUDENT:-Qwen/Qwen3-8B-Base}   # a folder or a hub id
TRAIN_FILES=${TRAIN_FILES:-data/openthoughts3/sft.parquet}
GPUS=${GPUS:-8}
NAME=${NAME:-$CONFIG}
OUTPUT=${OUTPUT:-outputs}                # the run's folder is $OUTPUT/$NAME
# ----------------------------------------------------

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[[ -x $python ]] || python=$(command -v python3)
if [[ -d $STUDENT ]]; then STUDENT=$(realpath -- "$STUDENT"); fi
train_files=$(realpath -m -- "$TRAIN_FILES")
if [[ ! -f $train_files ]]; then
  echo "error: TRAIN_FILES=$TRAIN_FILES: does not exist; see prefix-opd prepare --help (--responses)" >&2
  exit 2
fi

overrides=(
  "--config-dir=$root/recipe/prefix_opd/config" "--config-name=$CONFIG"
  "model.path='$STUDENT'" "data.train_files='$train_files'"
  "trainer.n_gpus_per_node=$GPUS" "trainer.experiment_name=$NAME"
  "trainer.default_local_dir='$(realpath -m -- "$OUTPUT")/$NAME'" "$@"
)
command=("$python" -m torch.distributed.run --standalone "--nproc-per-node=$GPUS" -m verl.trainer.sft_trainer "${overrides[@]}")
if [[ ${DRY_RUN:-0} != 0 ]]; then
  "$python" -m verl.trainer.sft_trainer "${overrides[@]}" --cfg job
  printf 'would run:'
  printf ' %q' "${command[@]}"
  printf '\n'
  exit 0
fi
export PREFIX_OPD_RUN=all  # docs/patches.md: checkpoints are loaded as tensors, never as code
exec "${command[@]}"

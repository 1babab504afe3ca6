# Sourced by run_prefix_opd_*.sh, which name a pair of models. Starts a run, or prints its command (DRY_RUN=1).
# RUN stands for one of these scripts.
#   bash RUN                                                 the prefix schedule on one node of 8 x 80 GB
#   KIND=prefix_256 bash RUN trainer.total_training_steps=10
#   DRY_RUN=1 LAYOUT=two_gpus bash RUN                       check, plan, print the command; start nothing
# Several nodes, on a running Ray cluster (scripts/slurm_prefix_opd.sbatch starts one):
#   ray job submit --working-dir . --runtime-env-json '{"env_vars": {"LAYOUT": "multi_node", "TRAIN_FILES": "..."}}' \
#     -- bash RUN
# Arguments are Hydra overrides; they take precedence over everything here.

# ---- paths and sizes; set any of them, or STUDENT and TEACHER, as an environment variable ----
KIND=${KIND:-schedule}                    # full, prefix_256, prefix_512, ...: recipe/prefix_opd/config/experiment/$PAIR
LAYOUT=${LAYOUT:-node_8x80gb}             # `prefix-opd plan … --layouts` compares all
TRAIN_FILES=${TRAIN_FILES:-data/openthoughts3/train.parquet}
VAL_FILES=${VAL_FILES:-data/aime2024/test.parquet}
STUDENT_NODES=${STUDENT_NODES:-}          # empty: as in the layout
STUDENT_GPUS=${STUDENT_GPUS:-}            # per node
TEACHER_NODES=${TEACHER_NODES:-}
TEACHER_GPUS=${TEACHER_GPUS:-}
NAME=${NAME:-${PAIR}_$KIND}
OUTPUT=${OUTPUT:-outputs}                 # the run's folder is $OUTPUT/$NAME
# ----------------------------------------------------

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${PREFIX_OPD:-$root/.venv/bin/prefix-opd}
if [[ ! -x $program ]]; then
  program=$(command -v prefix-opd) || { echo "error: prefix-opd: is not installed; run bash scripts/setup.sh gpu" >&2; exit 2; }
fi

# Paths are made absolute because Ray's workers may start in another folder. A hub id is not a path.
absolute() { if [[ -e $1 || $1 == .* ]]; then realpath -m -- "$1"; else printf '%s' "$1"; fi; }

# Values are quoted because Hydra interprets commas and equal signs
command=(
  "$program" train "experiment=$PAIR/$KIND" "layout=$LAYOUT"
  "actor_rollout_ref.model.path='$(absolute "$STUDENT")'"
  "distillation.teacher_models.teacher_model.model_path='$(absolute "$TEACHER")'"
  "data.train_files='$(realpath -m -- "$TRAIN_FILES")'"
  "data.val_files='$(realpath -m -- "$VAL_FILES")'"
  "trainer.experiment_name=$NAME"
  "trainer.default_local_dir='$(realpath -m -- "$OUTPUT")/$NAME'"
)
[[ -z $STUDENT_NODES ]] || command+=("trainer.nnodes=$STUDENT_NODES")
[[ -z $STUDENT_GPUS ]] || command+=("trainer.n_gpus_per_node=$STUDENT_GPUS")
[[ -z $TEACHER_NODES ]] || command+=("distillation.nnodes=$TEACHER_NODES")
[[ -z $TEACHER_GPUS ]] || command+=("distillation.n_gpus_per_node=$TEACHER_GPUS")
command+=("$@")

if [[ ${DRY_RUN:-0} != 0 ]]; then
  "$program" plan "${command[@]:2}"
  "$program" train --check "${command[@]:2}"
  printf 'would run:'
  printf ' %q' "${command[@]}"
  printf '\n'
  exit 0
fi
exec "${command[@]}"

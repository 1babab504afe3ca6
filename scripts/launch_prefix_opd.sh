# Sourced by the run scripts, which set the variables: put the command together, then start it or (DRY_RUN=1) show it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${PREFIX_OPD:-$root/.venv/bin/prefix-opd}
if [[ ! -x $program ]]; then
  program=$(command -v prefix-opd) || { echo "error: prefix-opd: is not installed; run bash scripts/setup.sh gpu" >&2; exit 2; }
fi

# Relative paths are the caller's, but Ray's workers may start elsewhere. A hub id is no path.
absolute() { if [[ -e $1 || $1 == .* ]]; then realpath -m -- "$1"; else printf '%s' "$1"; fi; }

# Quoted, as Hydra reads commas and equal signs in a bare value
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

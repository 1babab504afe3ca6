#!/usr/bin/env bash
# Create .venv unless it is up to date. Usage: scripts/setup.sh [cpu|gpu]  (default: what the machine has)
# A .venv of the other kind is kept as .venv-gpu or .venv-cpu and restored when it is requested.
set -euo pipefail
cd "$(dirname "$0")/.."

device=${1:-${PREFIX_OPD_DEVICE:-}}
if [[ -z $device ]]; then
  # no pipe into grep -q: it would end at the first card, and nvidia-smi would fail with a broken pipe
  if [[ $(nvidia-smi -L 2>/dev/null || true) == GPU* ]]; then device=gpu; else device=cpu; fi
fi
case $device in
  cpu) version=3.11 requirements=requirements-cpu.txt ;;  # the CPU wheels of torch and vLLM are built for 3.11
  gpu) version=3.12 requirements=requirements.txt ;;
  *) echo "error: $device: is not cpu or gpu" >&2; exit 2 ;;
esac

stamp=$(cat "$requirements" requirements-core.txt requirements-dev.txt requirements-flash-attn.txt scripts/requirements-exclude.txt pyproject.toml \
  scripts/setup.sh | cksum)-$device-$PWD
there=$(cat .venv/.device 2>/dev/null || true)
if [[ -d .venv && $there != "$device" ]]; then
  if [[ -n $there ]]; then rm -rf ".venv-$there" && mv .venv ".venv-$there"; else rm -rf .venv; fi
  if [[ -d .venv-$device ]]; then mv ".venv-$device" .venv; fi
fi
if [[ -x .venv/bin/prefix-opd && $(cat .venv/.stamp 2>/dev/null) == "$stamp" ]]; then
  exit 0
fi

python=$(command -v "python$version" || command -v python3)
echo "setting up .venv for $device (a few minutes the first time)"
[[ -x .venv/bin/python ]] || "$python" -m venv .venv
.venv/bin/python -m pip install -qq --disable-pip-version-check uv
uv() { .venv/bin/uv "$@" --python .venv/bin/python; }
# uv installs the Python that the wheels need if the machine has another version
if [[ $(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])') != "$version" ]]; then
  tool=$(mktemp -d) && "$python" -m venv "$tool" && "$tool/bin/pip" install --quiet uv
  rm -rf .venv && "$tool/bin/uv" venv --quiet --seed --python "$version" .venv && rm -rf "$tool"
  .venv/bin/python -m pip install --quiet uv
fi

# Source of torch+cpu: a folder of wheels from pip's configuration, else PyTorch's index.
extra=()
if [[ $device == cpu ]]; then
  links=${PIP_FIND_LINKS:-$(.venv/bin/python -m pip config get global.find-links 2>/dev/null || true)}
  if [[ -n $links ]] && compgen -G "${links%% *}/torch-*cpu*" >/dev/null; then
    extra=(--find-links "${links%% *}")
  else
    extra=(--torch-backend cpu)
  fi
  extra+=(--override scripts/requirements-exclude.txt)
fi
uv pip install --quiet "${extra[@]}" -r "$requirements" -r requirements-dev.txt
if [[ $device == gpu ]]; then
  if command -v nvcc >/dev/null; then
    uv pip install --quiet --no-build-isolation -r requirements-flash-attn.txt
  else
    echo "nvcc not found, so flash-attn was not built: runs will use sdpa, which is slower on long packs"
  fi
fi
uv pip install --quiet --no-deps --editable .
echo "$device" >.venv/.device
echo "$stamp" >.venv/.stamp

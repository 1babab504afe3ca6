# Sourced in the repository's root: sets `python`. PREFIX_OPD_PYTHON names an interpreter that has all packages. Without
# it, .venv is set up for the device $1 (cpu, gpu; empty: what the machine has).
if [[ -n ${PREFIX_OPD_PYTHON:-} ]]; then
  if ! python=$(command -v -- "$PREFIX_OPD_PYTHON"); then
    echo "error: PREFIX_OPD_PYTHON=$PREFIX_OPD_PYTHON: is not a program; name a Python interpreter" >&2
    exit 2
  fi
else
  scripts/setup.sh ${1:-}
  python=$PWD/.venv/bin/python
fi
# Images often set this variable. Every process would then compile verl, torch and vLLM again: 12 s of a core each time.
unset PYTHONDONTWRITEBYTECODE

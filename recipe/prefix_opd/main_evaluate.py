"""Run an evaluation that `prefix-opd evaluate` has planned: `python -m recipe.prefix_opd.main_evaluate OUT_FOLDER`."""

import sys
from pathlib import Path

from prefix_opd.launch import evaluate

if __name__ == "__main__":
    sys.exit(evaluate(Path(sys.argv[1])))

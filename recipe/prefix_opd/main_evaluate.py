"""Run an evaluation that `prefix-opd evaluate` has planned.

    python -m recipe.prefix_opd.main_evaluate OUT_FOLDER

The folder's config.yaml says everything; what its parts hold already is not asked again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import OmegaConf

from prefix_opd.cpu.environment import set_environment
from prefix_opd.errors import EXIT_BAD_INPUT, UserError
from prefix_opd.evaluation.record import hold
from prefix_opd.runfolder import CONFIG_FILE
from recipe.prefix_opd.main_prefix_opd import run


def main(folder: Path) -> int:
    try:
        lock = hold(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    config = OmegaConf.load(folder / CONFIG_FILE)
    if config.platform == "cpu":
        set_environment()
    with lock:
        run(config, trainer_module="prefix_opd.verl_plugin.evaluator")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

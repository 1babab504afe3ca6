"""Launch on-policy prefix distillation on verl's synchronous V1 trainer.

    python -m recipe.prefix_opd.main_prefix_opd experiment=tiny/schedule trainer.total_training_steps=20

Read from top to bottom: compose, check, start Ray, run verl's task with our trainer in it. `prefix-opd train` does
the same with a progress bar, and verl's output in a file.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from prefix_opd.compose import compose
from prefix_opd.cpu.environment import set_environment
from prefix_opd.errors import EXIT_BAD_INPUT, UserError
from prefix_opd.preflight import STUDENT_KEY, TEACHER_KEY, check


def prepare(overrides: Sequence[str]) -> DictConfig:
    """Compose and check a run; nothing is started. Raises UserError."""
    config = compose(overrides)
    if config.platform == "cpu":
        set_environment()
    OmegaConf.resolve(config.prefix_opd)
    check(config)
    _make_paths_absolute(config)
    return config


def _make_paths_absolute(config: DictConfig) -> None:
    # relative paths are the launcher's; Ray's workers have working directories of their own
    for key in ("trainer.default_local_dir", "trainer.validation_data_dir", "data.train_files", "data.val_files"):
        value = OmegaConf.select(config, key)
        paths = [str(Path(path).expanduser().absolute()) for path in ([value] if isinstance(value, str) else value)]
        OmegaConf.update(config, key, paths[0] if isinstance(value, str) else paths)
    for key in (STUDENT_KEY, TEACHER_KEY):
        path = Path(OmegaConf.select(config, key)).expanduser()
        if path.is_dir():
            OmegaConf.update(config, key, str(path.absolute()))


def run(config: DictConfig, trainer_module: str = "prefix_opd.verl_plugin.trainer") -> None:
    """Run a prepared config to its end, with the trainer that ``trainer_module`` registers with verl."""
    folder = Path(config.trainer.default_local_dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "config.yaml", resolve=True)

    if config.platform == "cpu":
        _warm_up(config)
    # verl reads the platform when it is imported, so not before the environment is set
    import ray
    from verl.trainer.main_ppo import TaskRunnerV1, auto_set_device, run_ppo

    class PrefixOPDTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
        def run(self, config):
            importlib.import_module(trainer_module)  # registers the trainer in this process

            return super().run(config)

    auto_set_device(config)
    run_ppo(config, task_runner_class=ray.remote(PrefixOPDTaskRunner))


def _warm_up(config: DictConfig) -> None:
    """Have Ray start its processes from one that has imported everything: see prefix_opd/cpu/warm_python.py."""
    from prefix_opd.cpu import warm_python

    with open_dict(config):
        config.ray_kwargs.ray_init.runtime_env.py_executable = str(warm_python.start())


def main(overrides: Sequence[str]) -> int:
    try:
        config = prepare(overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    run(config)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

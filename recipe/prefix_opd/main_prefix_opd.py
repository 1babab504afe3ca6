"""Launch on-policy prefix distillation on verl's synchronous V1 trainer.

    python -m recipe.prefix_opd.main_prefix_opd experiment=tiny/schedule trainer.total_training_steps=20

Read from top to bottom: compose, check, start Ray, run verl's task with our trainer in it. `prefix-opd train` does
the same with a progress bar, and verl's output in a file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from prefix_opd.compose import compose
from prefix_opd.cpu.environment import set_environment
from prefix_opd.errors import EXIT_BAD_INPUT, UserError
from prefix_opd.preflight import check


def prepare(overrides: Sequence[str]) -> DictConfig:
    """Compose and check a run; nothing is started. Raises UserError."""
    config = compose(overrides)
    if config.platform == "cpu":
        set_environment()
    OmegaConf.resolve(config.prefix_opd)
    check(config)
    # relative paths are the launcher's; Ray's workers have working directories of their own
    config.trainer.default_local_dir = str(Path(config.trainer.default_local_dir).absolute())
    return config


def run(config: DictConfig) -> None:
    """Run a prepared config to its end."""
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
            import prefix_opd.verl_plugin.trainer  # noqa: F401  registers the trainer in this process

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

"""Launch a run on verl's synchronous V1 trainer: compose, check, start Ray, run verl's task with our trainer.

``python -m prefix_opd.launch OVERRIDE...`` runs in the foreground. `prefix-opd train` starts the same module as a
child, shows a progress bar and keeps verl's output in a file. It calls `examine` itself, so that the user sees the
findings, and passes ``--examined``.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from prefix_opd import RUN
from prefix_opd.base import logs
from prefix_opd.base.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_STOPPED, RunStopped, UserError
from prefix_opd.base.loopback import stay_on_loopback
from prefix_opd.base.redaction import save_config
from prefix_opd.checks.cluster import check_machine, give_cpus
from prefix_opd.checks.preflight import check
from prefix_opd.config.compose import compose
from prefix_opd.config.keys import GRADER_KEY, STUDENT_KEY
from prefix_opd.config.teachers import teachers
from prefix_opd.cpu import warm_python
from prefix_opd.cpu.environment import set_environment
from prefix_opd.evaluation.record import hold as hold_evaluation
from prefix_opd.run import stopping
from prefix_opd.run.checkpoints import settle_resume
from prefix_opd.run.folder import CONFIG_FILE, check_is_free, check_same_run, hold, keep_command
from prefix_opd.run.follow import STOPPED
from prefix_opd.verl_plugin import our_run

EXAMINED = "--examined"
"""Argument of `main`: the parent process has already run `examine`."""
PATHS = (
    "actor_rollout_ref.model.lora_adapter_path",
    "data.train_files",
    "data.val_files",
    "trainer.default_local_dir",
    "trainer.resume_from_path",
    "trainer.validation_data_dir",
)
"""Keys whose paths become absolute, because Ray's workers have other working directories. Some may be null."""
VERLS_OWN = "--verls-own"
"""Argument of `main`: see `prepare`."""


def prepare(overrides: Sequence[str], verls_own: bool = False) -> DictConfig:
    """Compose and check a run without starting it. Raises UserError.

    Args:
        verls_own: use verl's own trainer and loss, for a benchmark; keys that only they read may be set.
    """
    config = compose(overrides)
    if config.platform == "cpu":
        set_environment()
    check(config, verls_own)
    our_run.switched_off(config)
    OmegaConf.resolve(config)  # Ray's processes do not know ${tiny:...} and ${context:...}
    _make_paths_absolute(config)
    return config


def examine(config: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Check that a prepared run may use its folder, and run the doctor's quick checks, with warnings on stdout.

    Args:
        overrides: as the user typed them.

    Raises:
        UserError: the folder is in use or has another run, its checkpoints are damaged, or a check fails.
    """
    from rich.console import Console

    from prefix_opd.checks.doctor import quick
    from prefix_opd.checks.finding import say
    from prefix_opd.checks.together import unused

    check_is_free(Path(config.trainer.default_local_dir))
    check_same_run(config)
    settle_resume(config.copy())  # on a copy, to report damaged checkpoints now; `run` settles it
    say([*unused(config, overrides), *quick(config)], Console())


def _make_paths_absolute(config: DictConfig) -> None:
    for key in PATHS:
        value = OmegaConf.select(config, key)
        if value is None:
            continue
        paths = [str(Path(path).expanduser().absolute()) for path in ([value] if isinstance(value, str) else value)]
        OmegaConf.update(config, key, paths[0] if isinstance(value, str) else paths)
    for key in (STUDENT_KEY, *(one.key for one in teachers(config)), GRADER_KEY):
        path = Path(OmegaConf.select(config, key)).expanduser()
        if path.exists():
            OmegaConf.update(config, key, str(path.absolute()))


def run(
    config: DictConfig, trainer_module: str = "prefix_opd.verl_plugin.trainer.trainer", stops_after_step: bool = False
) -> None:
    """Run a prepared config to its end.

    Args:
        config: from `prepare`.
        trainer_module: the module that registers the trainer with verl.
        stops_after_step: the trainer follows `prefix_opd.run.stopping`, so signals request a stop instead of killing.
    """
    folder = Path(config.trainer.default_local_dir)
    held = hold(folder)  # noqa: F841  held until this process ends
    give_cpus(config)
    save_config(config, folder / "config.yaml")
    stay_on_loopback(config)
    settle_resume(config)
    stopping.forget(folder)
    _begin(config)

    if warm_python.is_asked(config.platform) and "warm_python" not in our_run.switched_off(config):
        _warm_up(config)
    # set the environment first, because verl reads the platform at import
    from prefix_opd.verl_plugin.runner import run_task

    run_task(config, trainer_module, folder if stops_after_step else None)


def _begin(config: DictConfig) -> None:
    """Install the run's patches in this process and in all of Ray's workers."""
    mark = our_run.begin(our_run.switched_off(config))
    with open_dict(config):
        OmegaConf.update(config, f"ray_kwargs.ray_init.runtime_env.env_vars.{RUN}", mark, force_add=True)


def _warm_up(config: DictConfig) -> None:
    """Let Ray fork its processes from one with all imports done: see prefix_opd/cpu/warm_python.py."""
    stand_in = warm_python.start(warm_python.PRELOAD[config.platform])
    if stand_in is None:
        print(f"{warm_python.why_not()}: every process of this run imports for itself", file=sys.stderr)
        return
    with open_dict(config):
        config.ray_kwargs.ray_init.runtime_env.py_executable = str(stand_in)


def main(overrides: Sequence[str]) -> int:
    """Run the module's command line. Exit codes: docs/faults.md."""
    logs.configure()
    examined, verls_own = EXAMINED in overrides, VERLS_OWN in overrides
    overrides = [word for word in overrides if word not in (EXAMINED, VERLS_OWN)]

    def train() -> int:
        config = prepare(overrides, verls_own)
        if not examined:
            check_machine(config)
            examine(config, overrides)
        folder = Path(config.trainer.default_local_dir)
        folder.mkdir(parents=True, exist_ok=True)
        keep_command([folder], ["train", *overrides])
        run(config, stops_after_step=True)
        if stopping.is_asked(folder):
            stopping.forget(folder)
            return stopping.EXIT_ASKED
        return 0

    return _in_one_line(train)


def _in_one_line(work: Callable[[], int]) -> int:
    """The exit code of ``work``. An error prints its reason as the last line."""
    try:
        return work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except RunStopped as stopped:  # from the trainer through Ray, which prepends the traceback
        traceback.print_exc()
        print(f"{STOPPED}{getattr(stopped, 'cause', stopped)}", file=sys.stderr)
        return EXIT_STOPPED
    except Exception as error:
        traceback.print_exc()
        from prefix_opd.verl_plugin.runner import dead_process

        if died := dead_process(error):
            print(f"{STOPPED}{died}", file=sys.stderr)
        return EXIT_FAILED


def evaluate(folder: Path) -> int:
    """Run the evaluation planned in ``folder``, keeping complete parts. Returns the exit code."""

    def work() -> int:
        with hold_evaluation(folder):
            config = OmegaConf.load(folder / CONFIG_FILE)
            if config.platform == "cpu":
                set_environment()
            run(config, trainer_module="prefix_opd.verl_plugin.trainer.evaluator")
        return 0

    return _in_one_line(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

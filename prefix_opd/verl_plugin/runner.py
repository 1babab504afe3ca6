"""Run verl's task with a trainer of this package."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path

import ray
from omegaconf import DictConfig, OmegaConf
from ray.exceptions import RayActorError
from verl.trainer.main_ppo import TaskRunnerV1, auto_set_device, run_ppo
from verl.utils.config import omega_conf_to_dataclass

from prefix_opd.base import logs
from prefix_opd.base.errors import RunStopped, UserError, one_line
from prefix_opd.checks.cluster import check_running_cluster, joins_a_cluster
from prefix_opd.run import stopping
from prefix_opd.verl_plugin.process_watch import ProcessWatch

NODES = (
    "actor_rollout_ref.actor",
    "actor_rollout_ref.rollout",
    "actor_rollout_ref.rollout.checkpoint_engine",
    "algorithm",
    "distillation",
)
"""Config nodes that a run builds (verl/trainer/ppo/v1/trainer_base.py, verl/workers/engine_workers.py). The model node
is left out, because its class loads the tokenizer; `prefix_opd.checks.preflight` has done that."""


def check_verl_config(config: DictConfig) -> None:
    """Reject a config that verl's classes reject. The rules of `prefix_opd.checks.keys` should be as strict.

    Raises:
        UserError: with the node and verl's reason.
    """
    resolved = copy.deepcopy(config)  # some classes modify their config
    OmegaConf.resolve(resolved)
    for key in NODES:
        try:
            omega_conf_to_dataclass(OmegaConf.select(resolved, key))
        except Exception as error:  # AssertionError, ValueError or OmegaConf's errors, wrapped by Hydra
            raise UserError(key, f"verl refuses it ({one_line(error.__cause__ or error)})") from None


def run_task(config: DictConfig, trainer_module: str, stop_folder: Path | None) -> None:
    """Start Ray and run the task to its end.

    Args:
        trainer_module: the module that registers the trainer with verl.
        stop_folder: the run folder. SIGTERM and SIGINT write a stop request there (`prefix_opd.run.stopping`). None:
            signals kill the process.

    Raises:
        RunStopped: the start-up made no progress for ``prefix_opd.start_up_seconds``.
        UserError: verl rejects a part of the config, the configured Ray cluster does not answer, or the cluster has too
            few free CPUs. No part of the run has started then.
    """

    class PrefixOPDTaskRunner(TaskRunnerV1.__ray_metadata__.modified_class):
        def run(self, config):
            importlib.import_module(trainer_module)  # registers the trainer in this process
            logs.configure()
            return super().run(config)

    check_verl_config(config)
    auto_set_device(config)
    watched = trainer_module.startswith("prefix_opd.")  # verl's own trainer has no milestones
    runner = _Starting(ray.remote(PrefixOPDTaskRunner), config, stop_folder, watched)
    try:
        run_ppo(config, task_runner_class=runner)
    except RayActorError:
        if runner.watch is not None and runner.watch.reason:
            raise RunStopped(runner.watch.reason) from None
        raise
    except ConnectionError as error:
        if ray.is_initialized() or not joins_a_cluster(config):
            raise
        raise UserError("RAY_ADDRESS, ray_kwargs.ray_init.address", f"no Ray cluster answers ({error})") from None


class _Starting:
    """Wraps the actor class. verl calls ``remote`` once Ray is up and verl's signal handlers are set."""

    def __init__(self, actor_class, config: DictConfig, stop_folder: Path | None, watched: bool):
        self.actor_class, self.config, self.stop_folder, self.watched = actor_class, config, stop_folder, watched
        self.watch: ProcessWatch | None = None

    def options(self, **options) -> _Starting:
        self.actor_class = self.actor_class.options(**options)
        return self

    def remote(self):
        free = ray._private.state.available_resources_per_node().values()  # as verl does (ResourcePoolManager)
        check_running_cluster(self.config, [(node.get("CPU", 0), node.get("GPU", 0)) for node in free])
        if self.stop_folder is not None:
            stopping.listen(self.stop_folder)
        task = self.actor_class.remote()
        if self.watched:
            folder = Path(self.config.trainer.default_local_dir)
            self.watch = ProcessWatch(task, folder, float(self.config.prefix_opd.start_up_seconds))
        return task


def dead_process(error: BaseException) -> str:
    """One line about a dead process of the run (Ray reports many lines); empty for other errors."""
    error = getattr(error, "cause", error)
    if not isinstance(error, RayActorError):
        return ""
    facts = dict(line.strip().partition(": ")[::2] for line in str(error).splitlines())
    who = f"{facts.get('class_name', 'an actor')} (pid {facts.get('pid', 'unknown')})"
    return f"the process {who} died; was it killed, or out of memory (`dmesg | tail`)?"

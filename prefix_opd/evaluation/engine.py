"""Engine and GPUs of an evaluation: those of the run of its checkpoint, or all of a GPU's memory for vLLM."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks import cluster
from prefix_opd.checks.surface import rule_of
from prefix_opd.config.keys import below, leaves
from prefix_opd.cost.memory import ROLLOUT_KEY

ENGINE = (
    "actor_rollout_ref.model.override_config.attn_implementation",
    "actor_rollout_ref.model.use_remove_padding",
    "actor_rollout_ref.actor.fsdp_config",
    *below(ROLLOUT_KEY, "dtype tensor_model_parallel_size gpu_memory_utilization max_num_seqs max_num_batched_tokens"),
    *below(ROLLOUT_KEY, "enforce_eager engine_kwargs"),
    *below("ray_kwargs.ray_init", "num_cpus num_gpus object_store_memory"),
    "trainer.nnodes",
)
"""Keys that an evaluation takes from the run of its checkpoint."""

FITTED = (
    "actor_rollout_ref.actor.fsdp_config",
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes",
)
"""Those of them that fit the run's number of GPUs, over which the trainer spreads its states."""

GPU_DEFAULTS = {
    # without training, vLLM gets the trainer's share of the memory
    "actor_rollout_ref.actor.fsdp_config.param_offload": True,
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload": True,
    "actor_rollout_ref.rollout.gpu_memory_utilization": 0.8,
}

_ABSENT = object()


def set_engine(config: DictConfig, run: DictConfig | None, gpus: int | None, touched: set[str]) -> None:
    """Set engine and GPUs; ``run`` is the config of the checkpoint's run. Raises UserError.

    Args:
        gpus: of a node, as the user asks.
        touched: keys that the user sets.
    """
    source = None if touched & {"layout", "experiment"} else run
    if source is not None:
        # the cluster that this machine is in, but no other machine that only the run's folder names
        joins = OmegaConf.select(source, cluster.ADDRESS_KEY) == "auto"
        take_over(config, source, (*ENGINE, cluster.ADDRESS_KEY) if joins else ENGINE, touched | set(FITTED))
    _set_gpus(config, source, gpus, touched)
    fits = source is None or config.platform == "cpu" or _ranks(config) == _ranks(source)
    if source is not None and fits:
        take_over(config, source, FITTED, touched)
    # a layout that leaves the memory to the arithmetic of a training run
    open_share = config.actor_rollout_ref.rollout.gpu_memory_utilization is None
    if config.platform != "cpu" and (open_share or not fits or (run is None and "layout" not in touched)):
        for key, value in GPU_DEFAULTS.items():
            if not any(_same_or_within(one, key) for one in touched):
                OmegaConf.update(config, key, value, force_add=True)


def _ranks(config: DictConfig) -> int:
    return config.trainer.n_gpus_per_node * config.trainer.nnodes


def take_over(config: DictConfig, run: DictConfig, keys: Sequence[str], touched: set[str]) -> None:
    """Copy values from a run's config. It may come from elsewhere, so the rules for overrides apply to it too."""
    for key in keys:
        value = OmegaConf.select(run, key, default=_ABSENT)  # null is a value: a run without a forced ending has it
        if value is _ABSENT:
            continue
        for name, one in leaves(value, key).items():
            rule = rule_of(name, config.platform)
            if rule is not None and not rule(one) and not any(_same_or_within(said, name) for said in touched):
                OmegaConf.update(config, name, one, merge=True, force_add=True)


def _set_gpus(config: DictConfig, run: DictConfig | None, gpus: int | None, touched: set[str]) -> None:
    if gpus is not None:
        config.trainer.n_gpus_per_node = gpus
    elif run is not None and "trainer.n_gpus_per_node" not in touched:
        # without a teacher, its GPUs on the same node are free; in a cluster they may be those of another node
        one_node = run.trainer.nnodes == run.distillation.nnodes == 1 and not cluster.joins_a_cluster(run)
        teacher = cluster.gpus(run)[1] if one_node and run.platform != "cpu" else 0
        config.trainer.n_gpus_per_node = run.trainer.n_gpus_per_node + teacher
    ranks = _ranks(config)
    shards = config.actor_rollout_ref.rollout.tensor_model_parallel_size
    if ranks % shards:
        raise UserError(
            f"{ranks} GPUs",
            f"do not divide among engines of actor_rollout_ref.rollout.tensor_model_parallel_size={shards}",
            "change --gpus or that key",
        )
    cluster.check_nodes(config, [(ROLLOUT_KEY, ranks)], config.trainer.n_gpus_per_node)


def key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _same_or_within(touched: str, key: str) -> bool:
    return touched == key or touched.startswith(f"{key}.") or key.startswith(f"{touched}.")

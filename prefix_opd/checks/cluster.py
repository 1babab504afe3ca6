"""GPUs, ranks and Ray's logical CPUs: whether they divide evenly, and whether machine and Ray have enough of them."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence

from omegaconf import DictConfig, OmegaConf, open_dict

from prefix_opd.base.errors import UserError
from prefix_opd.base.processes import run
from prefix_opd.config.teachers import Teacher, teachers
from prefix_opd.cost.memory import PLACEMENT_KEY, ROLLOUT_KEY, URL_KEY, is_shared

BUNDLE_CPUS = 3
"""Logical CPUs in one GPU's Ray bundle (verl/single_controller/ray/base.py: ResourcePoolManager.max_colocate_count)."""
CONTROLLER_CPUS = 1
"""Logical CPUs of TransferQueue's controller."""
SCHEDULING_CPUS = 1
"""An actor that holds no CPU (task runner, server, worker) still needs a free CPU to start."""
CPUS_KEY = "ray_kwargs.ray_init.num_cpus"
GPUS_KEY = "ray_kwargs.ray_init.num_gpus"
UNITS_KEY = "transfer_queue.backend.SimpleStorage.num_data_storage_units"
VISIBLE = "CUDA_VISIBLE_DEVICES"
ADDRESS_KEY = "ray_kwargs.ray_init.address"
MEMORY_KEY, TEMPORARY_KEY = "ray_kwargs.ray_init.object_store_memory", "ray_kwargs.ray_init._temp_dir"
BUCKET_KEY = f"{ROLLOUT_KEY}.checkpoint_engine.update_weights_bucket_megabytes"
KV_BYTES, MEBIBYTE = "engine_kwargs.vllm.kv_cache_memory_bytes", 1 << 20
TEMPORARY_BYTES = 43
"""A socket's path has 107 bytes, and Ray adds 64: the session (time and process id), sockets/plasma_store."""
OF_A_NEW_CLUSTER = (CPUS_KEY, GPUS_KEY, MEMORY_KEY, TEMPORARY_KEY)
"""`ray.init` rejects these keys together with a cluster address."""


def pools(config: DictConfig) -> tuple[int, int]:
    """Number of GPUs that the student's and the teacher's engines run on; on ``platform: cpu`` these are simulated."""
    trainer, teacher = config.trainer, config.distillation
    here = teacher.enabled and not OmegaConf.select(config, URL_KEY)
    scoring = teacher.n_gpus_per_node * teacher.nnodes if here else 0
    return trainer.n_gpus_per_node * trainer.nnodes, scoring


def gpus(config: DictConfig) -> tuple[int, int]:
    """Number of GPUs that a run asks Ray for: the student's, and the teacher's own."""
    student, teacher = pools(config)
    return student, 0 if is_shared(config) else teacher


def gpus_of_a_node(config: DictConfig) -> int:
    """Number of GPUs that one machine must have: all of them, or in a cluster those of a node."""
    student, teacher = gpus(config)
    if not joins_a_cluster(config):
        return student + teacher
    return max(config.trainer.n_gpus_per_node, config.distillation.n_gpus_per_node if teacher else 0)


def needed_cpus(config: DictConfig) -> int:
    """Logical CPUs that a run needs in Ray: those it holds at once, plus one to start actors."""
    units = OmegaConf.select(config, UNITS_KEY)
    return BUNDLE_CPUS * sum(gpus(config)) + CONTROLLER_CPUS + units + SCHEDULING_CPUS


def joins_a_cluster(config: DictConfig) -> bool:
    return bool(os.environ.get("RAY_ADDRESS") or OmegaConf.select(config, ADDRESS_KEY))


def check_parallel_sizes(config: DictConfig) -> None:
    """Check that ``tensor_model_parallel_size`` divides the number of the engine's GPUs, and that no engine lies on
    more nodes than it must: verl numbers the GPUs of all nodes in a row. Raises UserError."""
    own, pool = pools(config)
    theirs = teachers(config)
    _check_pool(config, theirs, pool)
    for node, count in ((ROLLOUT_KEY, own), *((one.inference_key, one.gpus) for one in theirs)):
        key = f"{node}.tensor_model_parallel_size"
        if count % (parallel := OmegaConf.select(config, key)):
            rule = f"must divide the {_counted(count)} of its engines"
            fix = "set it to 1, or choose a layout with more GPUs (`prefix-opd plan … --layouts`)"
            raise UserError(f"{key}={parallel}", rule, fix)
    check_nodes(config, [(ROLLOUT_KEY, own)], config.trainer.n_gpus_per_node)
    check_nodes(config, [(one.inference_key, one.gpus) for one in theirs], config.distillation.n_gpus_per_node)


def check_nodes(config: DictConfig, engines: Sequence[tuple[str, int]], per_node: int) -> None:
    """Check how engines lie on nodes of ``per_node`` GPUs. Raises UserError.

    verl starts an engine of more GPUs on whole nodes, and one of fewer on the node of its first GPU
    (verl/workers/rollout/replica.py, verl/experimental/teacher_loop/teacher_model.py).

    Args:
        engines: config node, and number of GPUs of all its engines, in the order in which verl places them.
    """
    start = 0
    for node, count in engines:
        key = f"{node}.tensor_model_parallel_size"
        parallel = OmegaConf.select(config, key)
        for first in range(start, start + count, parallel):
            last = first + parallel - 1
            nodes = last // per_node - first // per_node + 1
            if nodes * min(parallel, per_node) != parallel:
                rule = f"puts an engine on GPUs {first} to {last}, and a node has {_counted(per_node)}"
                order = ", or name the teachers in another order" if len(engines) > 1 else ""
                raise UserError(f"{key}={parallel}", rule, f"let it divide {per_node} or be a multiple of it{order}")
        start += count


def _counted(count: float, kind: str = "") -> str:
    return f"{count:g} {kind}GPU{'' if count == 1 else 's'}"


def _check_pool(config: DictConfig, theirs: list[Teacher], pool: int) -> None:
    """Check that several teachers take all GPUs of their pool, as verl demands; on a CPU each has one GPU."""
    key, shared = "distillation.n_gpus_per_node", is_shared(config)
    each, nodes = config.distillation.n_gpus_per_node, config.distillation.nnodes if len(theirs) > 1 else 1
    if config.platform == "cpu" and not shared and each * nodes != len(theirs):
        rule = "has one value on platform=cpu: a pretended GPU for each teacher"
        raise UserError(f"{key}={each}", rule, f"leave it at {max(1, len(theirs) // nodes)}")
    if len(theirs) > 1 and sum(one.gpus for one in theirs) != pool:
        told = " + ".join(f"{one.gpus} ({one.source})" for one in theirs)
        which = "trainer.n_gpus_per_node" if shared else key
        fix = f"set {which}, or each teacher's num_replicas and inference.tensor_model_parallel_size"
        raise UserError(f"{key}={each}", f"gives the teachers {_counted(pool)}, and their engines take {told}", fix)


def check_cluster(config: DictConfig) -> None:
    """Check that a cluster started by the run has enough CPUs and GPUs, and that a cluster to join gets no keys of a
    new one; `check_running_cluster` checks its size. Raises UserError."""
    if joins_a_cluster(config):
        what = f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}" if os.environ.get("RAY_ADDRESS") else ADDRESS_KEY
        for key in OF_A_NEW_CLUSTER:
            if (value := OmegaConf.select(config, key)) is not None:
                rule = f"names a cluster to join, but {key}={value} is for one that the run starts"
                fix = "unset RAY_ADDRESS" if config.platform == "cpu" else f"unset the one, or set {key}=null"
                raise UserError(what, rule, fix)
        return
    _check_new_cluster(config)
    told, needed, (student, teacher) = OmegaConf.select(config, CPUS_KEY), needed_cpus(config), gpus(config)
    if told is not None and told < needed:
        rule = f"the run asks Ray for {needed}: {BUNDLE_CPUS} for each of {student} + {teacher} GPUs, "
        rule += (
            f"{OmegaConf.select(config, UNITS_KEY)} for {UNITS_KEY}, {CONTROLLER_CPUS + SCHEDULING_CPUS} for the rest"
        )
        fix = f"set it to {needed} or more (they are logical: nothing is bound to a core), or to null"
        raise UserError(f"{CPUS_KEY}={told}", rule, fix)
    pretended, asked = OmegaConf.select(config, GPUS_KEY), student + teacher
    if pretended is not None and pretended < asked:
        rule = f"the run asks Ray for {asked}: {_asked(config)}"
        raise UserError(f"{GPUS_KEY}={pretended}", rule, f"set it to {asked}")


def _check_new_cluster(config: DictConfig) -> None:
    """Check Ray's folders and its memory, which `ray.init` would reject in a traceback."""
    temporary = OmegaConf.select(config, TEMPORARY_KEY)
    if temporary is not None and len(os.fsencode(temporary)) > TEMPORARY_BYTES:
        rule = f"has more than the {TEMPORARY_BYTES} bytes that leave room for the names of Ray's sockets"
        raise UserError(f"{TEMPORARY_KEY}={temporary}", rule, "name a folder with a shorter path")
    if temporary is not None and (not os.path.isabs(temporary) or os.path.isfile(temporary)):
        raise UserError(f"{TEMPORARY_KEY}={temporary}", "is not the absolute path of a folder", "name one")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    engines = [ROLLOUT_KEY, *(one.inference_key for one in teachers(config))] if config.platform == "cpu" else []
    buckets = [BUCKET_KEY] if engines else []  # in shared memory; that of a GPU is on its card
    units = {MEMORY_KEY: 1} | {f"{engine}.{KV_BYTES}": 1 for engine in engines} | dict.fromkeys(buckets, MEBIBYTE)
    for key, unit in units.items():
        if (asked := (OmegaConf.select(config, key) or 0)) * unit > machine:
            raise UserError(f"{key}={asked}", f"exceeds this machine's memory of {machine} bytes", "lower it")
    key = "ray_kwargs.ray_init.runtime_env.working_dir"
    folder = OmegaConf.select(config, key)
    if folder is not None and "://" not in folder and not os.path.isdir(folder):
        raise UserError(f"{key}={folder}", "is not a folder", "leave it out: processes start where the command does")


def _asked(config: DictConfig) -> str:
    student, teacher = gpus(config)
    trainers = f"{student} for the student (trainer.n_gpus_per_node x nnodes)"
    own = f" and {teacher} for the teacher ({PLACEMENT_KEY}=own: distillation.n_gpus_per_node x nnodes)"
    return trainers + (own if teacher else "")


def check_machine(config: DictConfig) -> None:
    """Check that this machine has the GPUs of a run that starts its own cluster. Raises UserError.

    Preflight leaves this out: ``train --check`` may run on a machine that could not train the run.
    """
    if config.platform == "cpu" or joins_a_cluster(config):
        return
    visible = os.environ.get(VISIBLE)
    if twice := [name for name, count in Counter(_named(visible)).items() if count > 1]:
        rule = (
            f"names GPU {twice[0]} more than once: CUDA does not start in a process that inherits such a list (error "
        )
        fix = f"name each GPU once, and share them by {PLACEMENT_KEY}=shared"
        raise UserError(f"{VISIBLE}={visible}", f"{rule}101, invalid device ordinal)", fix)
    if OmegaConf.select(config, GPUS_KEY) is None:  # a number that is given was checked against what the run asks for
        count, shown = visible_gpus(), "nvidia-smi" if visible is None else f"{VISIBLE}={visible}"
        _check_gpus(config, count, f"{shown} shows {_counted(count)}")


def visible_gpus() -> int:
    """Number of this machine's GPUs that a run can use: those of CUDA_VISIBLE_DEVICES, else those of nvidia-smi."""
    if (visible := os.environ.get(VISIBLE)) is not None:
        return len(_named(visible))
    if shutil.which("nvidia-smi") is None:
        return 0
    return sum(line.startswith("GPU ") for line in run(["nvidia-smi", "-L"]).stdout.splitlines())


def _named(visible: str | None) -> list[str]:
    return [name.strip() for name in (visible or "").split(",") if name.strip() not in ("", "-1")]


def _check_gpus(config: DictConfig, count: float, shown: str) -> None:
    student, teacher = gpus(config)
    if count < (asked := student + teacher):
        shared = f"set {PLACEMENT_KEY}=shared, " if teacher and 0 < student <= count else ""
        rest = "lower their numbers, or choose another layout" if count else "use a machine with GPUs, or platform=cpu"
        raise UserError(shown, f"the run asks for {asked}: {_asked(config)}", f"{shared}{rest}")


def give_cpus(config: DictConfig) -> None:
    """Give a cluster started by the run the logical CPUs that it needs, whatever the machine has."""
    if not joins_a_cluster(config) and OmegaConf.select(config, CPUS_KEY) is None:
        with open_dict(config):
            config.ray_kwargs.ray_init.num_cpus = max(os.cpu_count() or 1, needed_cpus(config))


def check_running_cluster(config: DictConfig, nodes: Sequence[tuple[float, float]]) -> None:
    """Reject an existing cluster with too few free logical CPUs or GPUs, in all or on a node: the workers would wait.
    Raises UserError.

    Args:
        nodes: free CPUs and GPUs of each node (``available_resources_per_node`` of Ray).
    """
    cpus, count = (sum(column) for column in zip(*nodes, strict=True))
    if cpus < (needed := needed_cpus(config)):
        fix = "end other jobs, start nodes with `ray start --num-cpus N` (they are logical), or add nodes"
        raise UserError(f"the Ray cluster has {cpus:g} free CPUs", f"the run asks it for {needed}", fix)
    _check_gpus(config, count, f"the Ray cluster has {_counted(count, 'free ')}")
    groups = [(config.trainer.nnodes, config.trainer.n_gpus_per_node)]
    if gpus(config)[1]:
        groups.append((config.distillation.nnodes, config.distillation.n_gpus_per_node))
    rooms = [max(0, int(min(free, (cpus - SCHEDULING_CPUS) // BUNDLE_CPUS))) for cpus, free in nodes]
    if not _hold(rooms, *groups):
        asked = [((BUNDLE_CPUS * size + SCHEDULING_CPUS, size), number) for number, size in groups]
        rule = f"the run asks for {_told(asked)}, each on one node"
        fix = "end other jobs, start nodes with `ray start --num-cpus N`, or ask for fewer GPUs on more nodes"
        raise UserError(f"the Ray cluster has free nodes of {_told(Counter(nodes).items())}", rule, fix)


def _hold(rooms: Sequence[int], student: tuple[int, int], teacher: tuple[int, int] = (0, 1)) -> bool:
    """Whether nodes with room for so many GPUs hold all groups (number, GPUs of one), each on one node, as
    verl places them (STRICT_PACK)."""
    most = {0: 0}  # placed groups of the student -> most groups of the teacher beside them
    for room in rooms:
        after: dict[int, int] = {}
        for placed, beside in most.items():
            for here in range(min(room // student[1], student[0] - placed) + 1):
                more = beside + (room - here * student[1]) // teacher[1]
                after[placed + here] = max(more, after.get(placed + here, 0))
        most = after
    return most.get(student[0], -1) >= teacher[0]


def _told(found: Iterable[tuple[tuple[float, float], int]]) -> str:
    return ", ".join(f"{number} x ({_counted(free)}, {cpus:g} CPUs)" for (cpus, free), number in found)

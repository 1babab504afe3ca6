"""What loading a checkpoint may do: all that verl writes comes back, and nothing in it runs."""

import io
import os
import pickle
import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch.distributed.fsdp import fully_shard
from torchdata.stateful_dataloader import StatefulDataLoader
from transformers import AutoConfig, AutoModelForCausalLM
from verl.trainer.ppo.utils import create_rl_sampler
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.checkpoint.checkpoint_handler import CheckpointHandler
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.utils.torch_functional import get_constant_schedule_with_warmup

from prefix_opd.base.errors import RunStopped
from prefix_opd.miniature import shipped_models
from prefix_opd.verl_plugin.engine import safe_loading
from prefix_opd.verl_plugin.engine.safe_loading import weights_only

FILES = [f"{kind}_world_size_1_rank_0.pt" for kind in ("model", "optim", "extra_state")]


class Plain:
    """A class that no checkpoint contains and that is harmless to load."""


class Touch:
    """Creates a folder if unpickling runs its code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def evil(tmp_path):
    """Spoils a file in place. Loading must reject it by name and not run it."""
    ran = tmp_path / "it_ran"

    def spoil(file):
        torch.save({**torch.load(file, weights_only=False), "evil": Touch(ran)}, file)
        return rf"{file} holds posix.mkdir, which could run code; .*trainer.resume_from_path"

    yield spoil
    assert not ran.exists()


@pytest.fixture(autouse=True)
def torch_is_left_as_it_was():
    before, allowed = torch.load, set(torch.serialization.get_safe_globals())
    yield
    assert torch.load is before
    assert set(torch.serialization.get_safe_globals()) == allowed


# ---- model, optimizer, schedule, random states ----


def manager(seed: int) -> FSDPCheckpointManager:
    """The checkpoint manager of a sharded model after two training steps, with its own seed."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(shipped_models()["student"]))
    fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (1,), mesh_dim_names=("fsdp",)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2 * (seed + 1))
    schedule = get_constant_schedule_with_warmup(optimizer, num_warmup_steps=5 + seed)
    for _ in range(2 + seed):
        model(torch.randint(0, 99, (2, 5))).logits.square().mean().backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return FSDPCheckpointManager(model, optimizer, schedule)


def states(of: FSDPCheckpointManager) -> dict:
    found = {"model": of.model.state_dict(), "optimizer": of.optimizer.state_dict()}
    flat, _ = torch.utils._pytree.tree_flatten(found)
    plain = [one.full_tensor() if hasattr(one, "full_tensor") else one for one in flat]
    return {"values": plain, "schedule": of.lr_scheduler.state_dict()}


def draw() -> tuple:
    return random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist()


def test_what_verl_writes_comes_back_equal(tmp_path, group):
    first = manager(0)
    np.random.standard_normal()  # the second of a pair is kept in NumPy's state
    first.save_checkpoint(str(tmp_path), global_step=2)
    wanted, drawn = states(first), draw()
    other = manager(1)
    assert other.lr_scheduler.state_dict() != wanted["schedule"]
    other.load_checkpoint(str(tmp_path))
    assert draw() == drawn
    found = states(other)
    assert found["schedule"] == wanted["schedule"]
    torch.testing.assert_close(found["values"], wanted["values"], rtol=0, atol=0)
    assert len(wanted["values"]) > 50


@pytest.mark.parametrize("file", FILES)
def test_code_in_a_checkpoint_is_refused_and_not_run(file, tmp_path, group, evil):
    of = manager(0)
    of.save_checkpoint(str(tmp_path), global_step=2)
    told = evil(tmp_path / file)
    with pytest.raises(RunStopped, match=told) as stopped:
        of.load_checkpoint(str(tmp_path))
    assert "\n" not in str(stopped.value)


# ---- position in the data ----


def loader(workers: int = 0) -> StatefulDataLoader:
    data = list(range(10))
    sampler = create_rl_sampler(OmegaConf.create({"shuffle": True, "seed": 0}), data)
    return StatefulDataLoader(data, batch_size=2, drop_last=True, num_workers=workers, sampler=sampler)


def trainer(checkpoint, data) -> PPOTrainerSync:
    """verl's trainer without engines, with the real loading."""
    made = object.__new__(PPOTrainerSync)
    settings = dict(resume_mode="resume_path", resume_from_path=str(checkpoint), del_local_ckpt_after_load=False)
    made.config = OmegaConf.create({"trainer": settings})
    made.actor_rollout_wg = SimpleNamespace(load_checkpoint=lambda **_: None)
    made.use_critic, made.trainer_mode, made.train_dataloader = False, "sync", data
    return made


def handler(data) -> CheckpointHandler:
    made = object.__new__(CheckpointHandler)
    made.dp_rank, made.rank, made.train_dataloader = 0, 0, data
    return made


@pytest.mark.parametrize("workers", [0, 1])
def test_the_position_in_the_data_comes_back(workers, tmp_path):
    folder = tmp_path / "global_step_2"
    folder.mkdir()
    stopped = loader(workers)
    batches = iter(stopped)
    next(batches), next(batches)
    for name in ("data.pt", "data_0.pt"):
        torch.save(stopped.state_dict(), folder / name)
    rest = [batch.tolist() for batch in batches]
    assert len(rest) == 3
    resumed = loader(workers)
    trainer(folder, resumed)._load_checkpoint()
    assert [batch.tolist() for batch in resumed] == rest
    tuned = loader(workers)
    handler(tuned)._load_dataloader_state(str(folder))
    assert [batch.tolist() for batch in tuned] == rest


def test_code_in_the_position_is_refused_and_not_run(tmp_path, evil):
    folder = tmp_path / "global_step_2"
    folder.mkdir()
    for name in ("data.pt", "data_0.pt"):
        torch.save(loader().state_dict(), folder / name)
    with pytest.raises(RunStopped, match=evil(folder / "data.pt")):
        trainer(folder, loader())._load_checkpoint()
    with pytest.raises(RunStopped, match=evil(folder / "data_0.pt")):
        handler(loader())._load_dataloader_state(str(folder))


# ---- and nothing else ----


@pytest.fixture
def file(tmp_path):
    torch.save({"own": Plain()}, tmp_path / "own.pt")
    return tmp_path / "own.pt"


def is_loaded(file) -> bool:
    return isinstance(torch.load(file, weights_only=False)["own"], Plain)


def test_outside_torch_loads_as_it_did(file):
    assert is_loaded(file)
    with weights_only(), pytest.raises(RunStopped, match=r"own.pt holds \S*test_safe_loading.Plain, which could"):
        is_loaded(file)
    assert is_loaded(file)


def test_one_within_another_and_an_error(file):
    with pytest.raises(KeyError), weights_only():
        with weights_only():
            pass
        with pytest.raises(RunStopped):  # still on
            is_loaded(file)
        raise KeyError
    assert is_loaded(file)


def test_another_thread_is_left_alone_and_leaves_this_one_on(file):
    found = []

    def beside():
        found.append(is_loaded(file))
        with weights_only():
            pass

    with weights_only():
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
        with pytest.raises(RunStopped):
            is_loaded(file)
    assert found == [True]


def test_messages_between_processes_are_left_alone(file):
    with weights_only():
        assert is_loaded(io.BytesIO(file.read_bytes()))
        assert torch.equal(pickle.loads(pickle.dumps(torch.ones(2))), torch.ones(2))


def test_what_others_had_allowed_stays_allowed(tmp_path):
    torch.save(np.arange(3, dtype=np.uint32), tmp_path / "array.pt")
    with torch.serialization.safe_globals([np.ndarray]):
        with weights_only():
            assert torch.load(tmp_path / "array.pt").tolist() == [0, 1, 2]
        assert np.ndarray in torch.serialization.get_safe_globals()


def test_an_open_file_is_a_file(file):
    with weights_only(), file.open("rb") as opened, pytest.raises(RunStopped, match="own.pt holds"):
        is_loaded(opened)


def test_a_file_that_is_none_of_torchs_is_told(tmp_path):
    (tmp_path / "data.pt").write_text("no pickle")
    with weights_only(), pytest.raises(RunStopped, match=r"data.pt holds more than plain tensors and values; remove"):
        torch.load(tmp_path / "data.pt", weights_only=False)


def test_importing_verl_is_enough(file):
    loaders = (FSDPCheckpointManager.load_checkpoint, CheckpointHandler._load_dataloader_state)
    assert all(hasattr(one, "__wrapped__") for one in (*loaders, PPOTrainerSync._load_checkpoint))
    with pytest.raises(RunStopped):
        safe_loading.guarded_loader(is_loaded)(file)

"""What the trainer does around verl's own writing of a checkpoint, which here writes one small file."""

import types

import pytest
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from prefix_opd.base.errors import RunStopped
from prefix_opd.config.settings import CheckpointSettings
from prefix_opd.run import checkpoints
from prefix_opd.run.events import EventLog
from prefix_opd.verl_plugin.trainer.trainer import PrefixOPDTrainer


def trainer(run, step=2):
    """A trainer without engines. The methods under test are real."""
    made = object.__new__(PrefixOPDTrainer)
    written = types.SimpleNamespace(checkpoint=types.SimpleNamespace(async_save=False))
    made.config = types.SimpleNamespace(
        trainer=types.SimpleNamespace(default_local_dir=str(run)),
        actor_rollout_ref=types.SimpleNamespace(actor=written),
    )
    made.settings = types.SimpleNamespace(checkpoint=CheckpointSettings(keep_last=1))
    made.global_steps, made.saved_step, made.events = step, 0, EventLog(run)
    made._ledger = dict
    return made


@pytest.fixture
def verl_saves(monkeypatch, tmp_path):
    def save(self):
        (tmp_path / f"global_step_{self.global_steps}" / "data.pt").write_text("position")

    monkeypatch.setattr(PPOTrainer, "_save_checkpoint", save)


def test_an_error_of_pruning_leaves_the_new_checkpoint(tmp_path, verl_saves, monkeypatch, caplog):
    caplog.set_level("WARNING", logger="prefix_opd")

    def broken(*_):
        raise OSError("stale file handle")

    monkeypatch.setattr(checkpoints, "prune", broken)
    made = trainer(tmp_path)
    made._save_checkpoint()
    assert made.saved_step == 2 and checkpoints.damage(tmp_path / "global_step_2") is None
    assert "step 2: old checkpoints could not be removed (OSError: stale file handle)" in caplog.text


def test_only_the_newest_stays(tmp_path, verl_saves):
    for step in (2, 4):
        trainer(tmp_path, step)._save_checkpoint()
    assert list(checkpoints.saved(tmp_path)) == [4]


@pytest.mark.parametrize("manifest", [None, '{"data.pt": [9, 0]}'])
def test_nothing_of_an_incomplete_checkpoint_stays_in_the_new_one(tmp_path, verl_saves, manifest):
    rest = tmp_path / "global_step_2" / "actor" / "model_world_size_8_rank_7.pt"
    rest.parent.mkdir(parents=True)
    rest.write_text("a run on 8 GPUs was killed here")
    if manifest:  # damaged since
        (tmp_path / "global_step_2" / checkpoints.MANIFEST_FILE).write_text(manifest)
    trainer(tmp_path)._save_checkpoint()
    written = {path.name for path in (tmp_path / "global_step_2").rglob("*")}
    assert written == {"data.pt", checkpoints.LEDGER_FILE, checkpoints.MANIFEST_FILE}


def test_a_checkpoint_that_fails_ends_the_run_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PPOTrainer, "_save_checkpoint", full)
    with pytest.raises(RunStopped, match="step 2: its checkpoint could not be written .*No space left on device"):
        trainer(tmp_path)._save_checkpoint()
    assert not list(tmp_path.glob("global_step_*"))

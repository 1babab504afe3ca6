"""What the trainer makes of a validation from which answers are missing; verl's own reckoning is the real one."""

import types

import pytest
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from prefix_opd.base.errors import RunStopped
from prefix_opd.verl_plugin.trainer.trainer import PrefixOPDTrainer


def trainer(failures=()):
    made = object.__new__(PrefixOPDTrainer)
    made.seen, made.warned = [], []
    made.global_steps = 7
    made.guard = types.SimpleNamespace(
        take_failures=lambda: list(failures),
        check_validation=lambda *seen: made.seen.append(seen),
        warn=made.warned.append,
    )
    return made


def test_the_guard_hears_how_many_answers_came_and_how_they_ended():
    """Three of four answers to two prompts."""
    made = trainer()
    metrics = made._val_metrics_update(
        ["tiny"] * 3,
        ["a", "a", "b"],
        {"reward": [1.0, 0.0, 1.0], "natural_end": [1.0, 0.0, 1.0]},
        [],
        expected_acc_counts={("tiny", "a"): 2, ("tiny", "b"): 2},
    )
    assert made.seen == [(3, 4, [1.0, 0.0, 1.0], metrics)]
    assert any(name.startswith("val-aux/tiny/natural_end/mean@") for name in metrics)
    assert made.warned == []


def test_answers_that_were_all_refused_for_one_reason_are_warned_of():
    made = trainer()
    infos = {"reward": [0.0, 0.0], "reason": ["the thinking did not end"] * 2, "pred": ["", ""]}
    metrics = made._val_metrics_update(["tiny"] * 2, ["a", "b"], infos, [])
    assert len(made.warned) == 1 and "for the same reason: the thinking did not end" in made.warned[0]
    assert not any("reason" in name for name in metrics), "verl averages no words"


def test_a_validation_of_which_nothing_came_back_is_told_in_one_line(monkeypatch):
    def nothing(self):
        raise IndexError("list index out of range")

    monkeypatch.setattr(PPOTrainer, "_validate", nothing)
    with pytest.raises(RunStopped, match=r"step 7: the validation failed \(row 3, rollout 0: gone\)"):
        trainer(["row 3, rollout 0: gone"])._validate()
    with pytest.raises(IndexError):
        trainer()._validate()  # nobody failed: another error, which is not ours to explain

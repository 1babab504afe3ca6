"""verl's FSDP engine around the miniature's student."""

import pytest

from prefix_opd.config.compose import compose


@pytest.fixture(scope="module")
def configs(group):
    """verl's dataclasses for model, actor and distillation of `tiny/full`."""
    from verl.utils.config import omega_conf_to_dataclass

    config = compose(["experiment=tiny/full"])
    nodes = config.actor_rollout_ref.model, config.actor_rollout_ref.actor, config.distillation
    return tuple(omega_conf_to_dataclass(node) for node in nodes)


@pytest.fixture(scope="module")
def wrapped_student(configs):
    """The engine with the student, wrapped by FSDP2."""
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    model, actor, _ = configs
    engine = FSDPEngineWithLMHead(model, actor.engine, actor.optim, actor.checkpoint)
    engine.initialize()
    return engine


@pytest.fixture
def use():
    """Choose how later batches are updated; the default is verl's way."""
    from update_batches import OFF, sent

    from prefix_opd.config.settings import Settings
    from prefix_opd.verl_plugin.fields import SETTINGS

    def choose(**update):
        sent[SETTINGS] = Settings(update={**OFF, **update})

    choose()
    return choose


@pytest.fixture
def engine(wrapped_student, monkeypatch):
    """verl's engine around a small random model, which `put` replaces."""
    from update_batches import qwen3

    wrapped_student.put = lambda model: monkeypatch.setattr(wrapped_student, "module", model)
    wrapped_student.put(qwen3())
    return wrapped_student

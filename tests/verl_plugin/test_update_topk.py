"""An update that reads the teacher's top k: logits of responses alone give verl's own loss, outputs and gradient."""

import pytest
from update_batches import FORMS, ROLLOUTS, batch, same, sent, update
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass

from prefix_opd.config.compose import compose
from prefix_opd.config.settings import Settings
from prefix_opd.verl_plugin.engine import update_tokens
from prefix_opd.verl_plugin.fields import SETTINGS

TOP_K = 5
LOSSES = {
    "reverse_kl_topk": {"name": "reverse_kl_topk"},
    "jsd_topk": {"name": "jsd_topk", "beta": 0.3},
    "forward_kl_topk": {"name": "forward_kl_topk"},  # verl's own, which reads logits
}


@pytest.fixture(params=LOSSES)
def choose(request, use):
    """Like ``use``, with a top-k loss; also verl's configs for it."""

    def chosen(**settings):
        use(**settings)
        sent[SETTINGS] = Settings(update=sent[SETTINGS].update.model_dump(), loss=LOSSES[request.param])

    loss = [f"distillation.distillation_loss.{one}" for one in (f"loss_mode={request.param}", f"topk={TOP_K}")]
    config = compose(["experiment=tiny/topk_full", *loss])
    nodes = config.actor_rollout_ref.model, config.actor_rollout_ref.actor, config.distillation
    chosen.configs = tuple(omega_conf_to_dataclass(node) for node in nodes)
    chosen()
    return chosen


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_loss_outputs_and_gradient_are_those_of_verls_own(engine, choose, form, tools, temperature):
    settings, kind = FORMS[form]
    several = [one for one in ROLLOUTS if one[1] != 3]  # none ends with a tool's output
    wanted = update(engine, choose.configs, batch(several, tools=tools, topk=TOP_K, temperature=temperature))
    choose(**settings)
    data = batch(several, tools=tools, topk=TOP_K, temperature=temperature, **kind)
    rows = []
    engine.module.lm_head.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[:2].numel()))
    same(update(engine, choose.configs, data), wanted, data, tolerance=1e-6)
    assert tu.get_non_tensor_data(data, key=update_tokens.FORM, default=None) is not None
    if kind:
        assert rows == [int(data["response_mask"].values().sum())]


def test_the_fused_head_returns_the_top_k_alone(engine, choose):
    choose(response_logits_only=True, fused_head=True)
    shapes = []
    engine.module.lm_head.register_forward_hook(lambda _, args, out: shapes.append(tuple(out.shape)))
    data = batch(topk=TOP_K, use_remove_padding=True)
    update(engine, choose.configs, data)
    sampled = int(data["response_mask"].values().sum())
    wide = 64 if choose.configs[2].distillation_loss.loss_mode == "forward_kl_topk" else TOP_K
    assert shapes == [(1, sampled, wide)]

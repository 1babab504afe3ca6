"""An update cut by length, in verl's own FSDP engine: the same gradient, outputs in order, metrics of the whole."""

import pytest
import torch
import torch.multiprocessing
from tensordict import TensorDict
from update_batches import as_sent, nested, update
from verl.utils import tensordict_utils as tu
from verl.utils.metric import reduce_metrics
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from prefix_opd.config.settings import Settings
from prefix_opd.verl_plugin import our_run
from prefix_opd.verl_plugin.engine import micro_batches, update_tokens
from prefix_opd.verl_plugin.fields import SETTINGS

pytestmark = pytest.mark.usefixtures("use")  # verl's way, unless a test chooses
PROMPT, RESPONSES = 3, [5, 60, 20, 61, 4, 22, 1, 58]
TOTALS = [PROMPT + response for response in RESPONSES]
BY_LENGTH = [[1, 3, 7], [2, 5], [0, 4, 6]]
OVERHEAD = 40
"""Three groups cost 192 + 50 + 24 + 3 * 40 = 386, two cost 192 + 125 + 80 = 397, one costs 512 + 40."""


@pytest.fixture
def engine(wrapped_student):
    return wrapped_student


@pytest.fixture
def passes(engine, monkeypatch):
    """The sequences of each pass through the model."""
    found = []

    def forward_step(micro_batch, **settings):
        found.append(micro_batch["row"].tolist())
        return FSDPEngineWithLMHead.forward_step(engine, micro_batch, **settings)

    monkeypatch.setattr(engine, "forward_step", forward_step)
    return found


def batch(learnt=RESPONSES, **settings):
    """Sequences of `TOTALS` tokens as verl's trainer sends them. ``learnt``: number of counted tokens per response."""
    torch.manual_seed(0)
    tokens = [torch.randint(5, 60, (total,)) for total in TOTALS]
    mask = [(torch.arange(r) < n).long() for r, n in zip(RESPONSES, learnt, strict=True)]
    fields = dict(
        row=torch.arange(len(TOTALS)),
        input_ids=nested(tokens),
        position_ids=nested(torch.arange(total) for total in TOTALS),
        prompts=nested(row[:PROMPT] for row in tokens),
        responses=nested(row[PROMPT:] for row in tokens),
        loss_mask=nested(mask),
        response_mask=nested(mask),
        rollout_log_probs=nested(-4 + torch.randn(r) for r in RESPONSES),
        advantages=nested(torch.randn(r) for r in RESPONSES),
    )
    return as_sent(fields, **settings)


def same(found, wanted):
    """Compare by sequence. The last value is ignored, because it scores the first token of the next sequence."""
    assert [len(row) for row in found.unbind()] == TOTALS
    for one, other in zip(found.unbind(), wanted.unbind(), strict=True):
        torch.testing.assert_close(one[:-1], other[:-1], rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_one_padded_batch(engine, configs, passes, use):
    whole, wanted = update(engine, configs, batch())
    use(micro_batch_cost=OVERHEAD)
    split, found = update(engine, configs, batch())
    assert passes == [list(range(8)), *BY_LENGTH]
    assert wanted.norm() > 0.1
    assert (found - wanted).norm() / wanted.norm() < 1e-6
    assert sum(split["loss"]) == pytest.approx(sum(whole["loss"]), rel=1e-5)


def test_outputs_come_back_in_order(engine, configs, use):
    whole, _ = update(engine, configs, batch())
    use(micro_batch_cost=OVERHEAD)
    split, _ = update(engine, configs, batch())
    for name, wanted in whole["model_output"].items():
        same(split["model_output"][name], wanted)


def test_metrics_are_those_of_the_whole(engine, configs, use):
    whole, _ = update(engine, configs, batch())
    use(micro_batch_cost=OVERHEAD)
    split, _ = update(engine, configs, batch())
    assert "prefix_opd/ratio/mean" in whole["metrics"]
    assert reduce_metrics(split["metrics"]) == pytest.approx(reduce_metrics(whole["metrics"]), rel=1e-4)


def test_a_pass_for_log_probs_alone_is_cut_too(engine, passes, use):
    with engine.eval_mode():
        whole = engine.forward_backward_batch(batch(), None, forward_only=True)
        use(micro_batch_cost=OVERHEAD)
        split = engine.forward_backward_batch(batch(), None, forward_only=True)
    assert passes == [list(range(8)), *BY_LENGTH]
    same(split["model_output"]["log_probs"], whole["model_output"]["log_probs"])


def rows(**settings):
    """The rows of each micro-batch, and the indices by which verl restores the order of outputs."""
    cut, indices = transformer_impl.prepare_micro_batches(data=batch(**settings), dp_group=None)
    return [micro_batch["row"].tolist() for micro_batch in cut], indices


def test_the_token_limit_holds_with_padding(use):
    use(micro_batch_cost=OVERHEAD)
    assert rows() == (BY_LENGTH, BY_LENGTH)
    limited, _ = rows(max_token_len_per_gpu=128)
    assert limited == [[1, 3], [7], [2, 5], [0, 4, 6]]  # 2 * 64 in the first


@pytest.mark.parametrize(
    "settings",
    [
        {"use_remove_padding": True},
        {"force_group_size": 2},
        # the third response and the last are stand-ins without a token to learn from
        {"learnt": [5, 60, 0, 61, 4, 22, 1, 0]},
    ],
)
def test_verl_cuts_where_nothing_is_padded_or_ours_would_not_do(settings, use):
    wanted = rows(**settings)
    use(micro_batch_cost=OVERHEAD)
    assert rows(**settings) == wanted == ([list(range(8))],) * 2


def test_verl_cuts_by_number_where_it_is_asked_to(use):
    use(micro_batch_cost=OVERHEAD)
    cut, indices = rows(use_dynamic_bsz=False, micro_batch_size_per_gpu=4)
    assert cut == [[0, 1, 2, 3], [4, 5, 6, 7]] and indices is None


def test_verl_tells_of_a_sequence_beyond_the_limit(use):
    use(micro_batch_cost=OVERHEAD)
    with pytest.raises(AssertionError, match="max_token_len"):
        rows(max_token_len_per_gpu=63)


def test_the_plugin_stands_before_verl_once():
    standing = transformer_impl.prepare_micro_batches
    our_run.join()
    assert transformer_impl.prepare_micro_batches is standing is not standing.__wrapped__
    assert standing.__wrapped__.__module__ == "verl.workers.engine.utils"
    assert not hasattr(standing.__wrapped__, "__wrapped__")


def _rank(rank, store, lengths, forms, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    tokens = nested(torch.ones(length) for length in lengths[rank])
    # a token of each is its prompt, and the same one
    prompts, responses = (nested(row[part] for row in tokens.unbind()) for part in (slice(1), slice(1, None)))
    fields = dict(input_ids=tokens, loss_mask=tokens, prompts=prompts, responses=responses)
    data = TensorDict(fields, batch_size=len(lengths[rank]))
    given = dict(use_remove_padding=False, use_dynamic_bsz=True, max_token_len_per_gpu=200)
    ours = Settings(update={"micro_batch_cost": OVERHEAD})
    tu.assign_non_tensor(data, **given, **{update_tokens.FORM: forms[rank], SETTINGS: ours})
    results[rank] = micro_batches._groups(tu, data, torch.distributed.group.WORLD)
    torch.distributed.destroy_process_group()


def _groups_of_two_ranks(tmp_path, *given):
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_rank, (tmp_path / "store", *given, results), nprocs=2)
        return results[0], results[1]


def test_all_ranks_make_as_many(tmp_path):
    """The first rank costs 200 + 40 in one group and 100 + 24 + 80 in two; the second costs 40 + 40 and 40 + 80."""
    first, second = _groups_of_two_ranks(tmp_path, [[50, 10, 50, 12], [10, 10, 10, 10]], [None, None])
    assert first == [[0, 2], [1, 3]]
    assert len(second) == 2


def test_ranks_that_share_prompts_and_ranks_that_cannot_make_as_many(tmp_path):
    """On the second rank the four rollouts of one prompt (1 + 4 * 59) do not fit, so groups of 3 and 1 form."""
    first, second = _groups_of_two_ranks(tmp_path, [[10, 10, 10, 10], [60, 60, 60, 60]], [None, update_tokens.SHARED])
    assert len(first) == 2
    assert second == [[0, 1, 2], [3]]

"""What the ledger of a run counts, and the sample of a rollout, by hand."""

import dataclasses
import json
import types

import pytest
import torch
from listed import is_listed
from test_trainer_record import ROLLOUT, SHAPE, TIMED

from prefix_opd.method import names
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.layers import Attention, Mlp
from prefix_opd.verl_plugin.fields import Rollouts
from prefix_opd.verl_plugin.trainer.ledger import Ledger
from prefix_opd.verl_plugin.trainer.samples import SampleRecorder


def test_the_ledger_counts_and_goes_on():
    ledger = Ledger(SHAPE, {"": SHAPE}, position_bin=2, recomputed=False)
    first = ledger.add(dataclasses.replace(ROLLOUT, records=[TIMED]))
    # a prompt of one token and a response of two, both sampled by the student
    counted = {kind: first[f"prefix_opd/tokens/{kind}"] for kind in ("generated", "scored", "trained")}
    assert counted == {"generated": 2, "scored": 3, "trained": 2}
    # log p - log q: 2 and -1
    assert (first["prefix_opd/prefix_length"], first["prefix_opd/reverse_kl/mean"]) == (8, 0.5)
    assert first["prefix_opd/entropy_by_position/0"] == 1.5, "log p is -1 and -2"
    resumed = Ledger(SHAPE, {"": SHAPE}, position_bin=2, recomputed=False)
    resumed.load_state_dict(json.loads(json.dumps(ledger.state_dict())))
    second = resumed.add(dataclasses.replace(ROLLOUT, records=[TIMED]))
    assert second["prefix_opd/tokens_so_far/scored"] == 6
    assert second["prefix_opd/flops_exact/so_far"] == 2 * first["prefix_opd/flops_exact/total"]


def test_each_rollout_counts_with_the_teacher_of_its_source():
    larger = ModelShape(4, 10, ((Attention(1, 1, 4), Mlp(20)),))
    two = dataclasses.replace(
        ROLLOUT,
        prompts=torch.tensor([1, 1, 1]),
        tokens=torch.tensor([2, 3, 4]),
        prompt_lengths=[1, 2],
        lengths=[2, 1],
        log_p=torch.tensor([-1.0, -2.0, -1.0]),
        log_q=torch.tensor([-3.0, -1.0, -1.5]),
        mask=torch.ones(3, dtype=torch.bool),
        prefix_lengths=[8, 8],
        records=[{**TIMED, "source": "sums"}, {**TIMED, "source": "openai/gsm8k"}],
    )
    ledger = Ledger(SHAPE, {"sums": SHAPE, "openai/gsm8k": larger}, position_bin=2, recomputed=False)
    found = ledger.add(two)
    # N = 240, and with an MLP of 20 in place of 8: 240 + 3 * 4 * 12 = 384; 3 tokens each, attention 72
    small, large = 2 * 240 * 3 + 72, 2 * 384 * 3 + 72
    assert found["prefix_opd/flops_exact/teacher_scoring"] == small + large
    assert found["prefix_opd/flops_exact/sampling"] == 2 * small
    assert names.of_teachers(found) == {
        "sums": {  # log p - log q: 2 and -1
            **{"tokens": 3, "flops_exact": small},
            **{"reverse_kl/mean": 0.5, "reverse_kl/abs_mean": 1.5, "reverse_kl/max": 2.0},
        },
        "openai/gsm8k": {
            **{"tokens": 3, "flops_exact": large},
            **{"reverse_kl/mean": 0.5, "reverse_kl/abs_mean": 0.5, "reverse_kl/max": 0.5},
        },
    }
    assert all(is_listed(name) for name in found)
    # 2 tokens of a response without prompt: 2 * N * 2 + 2 * 4 * 4; 1 token: 2 * N + 2 * 4
    assert found["prefix_opd/flops_paper/teacher_scoring"] == (2 * 240 * 2 + 32) + (2 * 384 + 8)
    ledger.add_thrown_away(two, recomputed=False)
    assert ledger.thrown_flops.teacher_scoring == small + large


def test_a_batch_that_is_thrown_away_is_counted_in_the_step_that_repeats_it():
    ledger = Ledger(SHAPE, {"": SHAPE}, position_bin=2, recomputed=True)
    # N = 4 * (2*4 + 2*4) + 3*4*8 + 2*10*4 = 240; 3 tokens: 2 * 240 * 3 + 2 * 3**2 * 4 = 1512 in a forward pass
    ledger.add_thrown_away(Rollouts([1], [2], [{}]), recomputed=True)  # after the student's own pass
    ledger.add_thrown_away(Rollouts([1], [2], [{}]), recomputed=False)  # before it
    found = ledger.add(dataclasses.replace(ROLLOUT, records=[TIMED]))
    flops = {name: found[f"prefix_opd/flops_exact/{name}"] for name in ("sampling", "student_scoring", "update")}
    assert flops == {"sampling": 3 * 1512, "student_scoring": 2 * 1512, "update": 3 * 1512}
    assert found["prefix_opd/flops_exact/teacher_scoring"] == 3 * 1512
    assert found["prefix_opd/flops_exact/so_far"] == found["prefix_opd/flops_exact/total"] == 11 * 1512
    assert [found[f"prefix_opd/tokens/{kind}"] for kind in ("generated", "scored", "trained")] == [6, 9, 2]
    again = ledger.add(dataclasses.replace(ROLLOUT, records=[TIMED]))
    assert again["prefix_opd/flops_exact/total"] == 6 * 1512 and again["prefix_opd/tokens_so_far/generated"] == 8


def test_a_teachers_own_prompt_is_counted_where_it_is_scored():
    ledger = Ledger(SHAPE, {"": SHAPE}, position_bin=2, recomputed=False)
    ledger.add_thrown_away(Rollouts([1], [2], [{"teacher_prompt_length": 4}]), recomputed=False)
    found = ledger.add(dataclasses.replace(ROLLOUT, records=[TIMED | {"teacher_prompt_length": 4}]))
    # twice 4 + 2 tokens for the teacher (2 * 240 * 6 + 2 * 6**2 * 4 = 3168), 1 + 2 for the student (1512, as above)
    assert found["prefix_opd/tokens/scored"] == 12 and found["prefix_opd/prompt_length/mean"] == 1
    assert found["prefix_opd/flops_exact/teacher_scoring"] == 2 * 3168
    assert found["prefix_opd/flops_exact/sampling"] == 2 * 1512


TWO_TURNS = dataclasses.replace(
    ROLLOUT,
    tokens=torch.arange(4),
    lengths=[4],
    log_p=torch.tensor([-1.0, 0.0, 0.0, -2.0]),
    log_q=torch.tensor([-3.0, -50.0, -50.0, -1.0]),
    mask=torch.tensor([True, False, False, True]),
    prefix_lengths=[2],
    records=[TIMED | {"turns": 2, "sampled": 2, "ending": "cut"}],
)
"""A prompt of one token; a token of the student, a tool's output of two, a token of the student."""


@pytest.mark.parametrize(("prefix_length", "place"), [(2, 4), (1, 1)])
def test_a_sample_of_two_turns_is_split_at_the_last_token_of_l(prefix_length, place):
    written = []
    recorder = SampleRecorder(types.SimpleNamespace(tokenizer=types.SimpleNamespace(decode=str)))
    recorder.log = types.SimpleNamespace(write=written.extend)
    rows = {"prompts": [[1]], "responses": [[0, 1, 2, 3]]}
    data = {name: torch.nested.as_nested_tensor(torch.tensor(row), layout=torch.jagged) for name, row in rows.items()}
    recorder.record(1, "train", TWO_TURNS, data, [prefix_length])
    (sample,) = written
    assert (sample.ids, sample.prefix_length) == ([0, 1, 2, 3], place)
    assert sample.log_p == [-1.0, -50.0, -50.0, -2.0] and sample.log_q == [-3.0, -50.0, -50.0, -1.0]


def test_a_tools_output_is_context_and_no_trained_token():
    ledger = Ledger(SHAPE, {"": SHAPE}, position_bin=2, recomputed=False)
    found = ledger.add(TWO_TURNS)
    assert [found[f"prefix_opd/tokens/{kind}"] for kind in ("generated", "scored", "trained")] == [2, 5, 2]
    assert found["prefix_opd/reverse_kl/mean"] == (2 - 1) / 2
    # both tokens of the student fall into the bin of positions 0 and 1
    assert found["prefix_opd/tokens_by_position/all/0"] == 2 and "prefix_opd/tokens_by_position/all/2" not in found
    assert (found["prefix_opd/response_length/mean"], found["prefix_opd/response_length/max"]) == (2, 2)
    assert (found["prefix_opd/turns/mean"], found["prefix_opd/tool_tokens/mean"]) == (2, 2)
    # 5 tokens pass through the models: 2 * 240 * 5 + 2 * 5**2 * 4 = 2600 in a forward pass, 3 times that in the update
    phases = [found[f"prefix_opd/flops_exact/{phase}"] for phase in ("sampling", "teacher_scoring", "update")]
    assert phases == [2600, 2600, 7800]
    # the paper's formula has no context: 2 * 240 * 2 + 2 * 2**2 * 4 = 992
    assert found["prefix_opd/flops_paper/sampling"] == 992
    # of a discarded batch the tool's tokens are scored, but not generated
    ledger.add_thrown_away(Rollouts([1], [4], TWO_TURNS.records), recomputed=False)
    again = ledger.add(TWO_TURNS)
    assert [again[f"prefix_opd/tokens/{kind}"] for kind in ("generated", "scored")] == [4, 10]

"""Rollouts that share a prompt's computation: the row by hand, attention against each rollout's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefix_opd.method.shared_prompts import SharedPrompts, owners

MANY = settings(max_examples=100, derandomize=True, deadline=None, database=None)
HEADS, GROUPS, SIZE = 2, 2, 4


def test_equal_tokens_are_one_prompt():
    rows = [[7, 8], [7], [7, 8], [8, 7], [7]]
    assert owners([torch.tensor(row) for row in rows]) == [0, 1, 0, 2, 1]


def test_the_row_by_hand():
    # a b c | x y   and   d | w   and   a b c | z: their tokens are numbered 0 1 2 3 4, 5 6, 7 8 9 10
    layout = SharedPrompts([3, 1, 3], [2, 1, 1], [0, 1, 0], "cpu")
    assert layout.tokens.tolist() == [0, 1, 2, 5, 3, 4, 6, 10]  # a b c d x y w z
    assert layout.predicting.tolist() == [2, 4, 3, 2]  # c scores x, x scores y, d scores w, c scores z


def alone(query, key, value):
    """Causal attention of one sequence, written out: (T, heads, d) each, fewer heads of keys than of queries."""
    out = []
    for head in range(query.shape[1]):
        q, k, v = query[:, head], key[:, head // GROUPS], value[:, head // GROUPS]
        rows = []
        for t in range(len(q)):
            weights = torch.exp(k[: t + 1] @ q[t] * 0.3)
            rows.append((weights[:, None] * v[: t + 1]).sum(0) / weights.sum())
        out.append(torch.stack(rows))
    return torch.stack(out, dim=1)


rollouts = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=1, max_size=7)


@given(rollouts, st.lists(st.integers(1, 5), min_size=4, max_size=4))
@MANY
def test_attention_and_its_gradient_are_those_of_each_rollout_alone(found, lengths):
    whose, responses = zip(*found, strict=True)
    prompts = [lengths[owner] for owner in whose]
    layout = SharedPrompts(prompts, responses, whose, "cpu")
    generator = torch.Generator().manual_seed(0)
    draw = lambda heads: torch.randn(  # noqa: E731
        len(layout.tokens), heads, SIZE, dtype=torch.float64, generator=generator
    ).requires_grad_()
    row = [draw(HEADS * GROUPS), draw(HEADS), draw(HEADS)]
    weights = torch.randn(sum(responses), HEADS * GROUPS, SIZE, dtype=torch.float64, generator=generator)

    query, key, value = (tensor.transpose(0, 1).unsqueeze(0) for tensor in row)
    shared = layout.attention(query, key, value, 0.3, 0.0)[0][layout.predicting]
    place = {token: i for i, token in enumerate(layout.tokens.tolist())}
    firsts, starts, start = {}, [], 0
    for owner, prompt, response in zip(whose, prompts, responses, strict=True):
        firsts.setdefault(owner, start)
        starts.append(start)
        start += prompt + response
    expected = []
    for owner, begin, prompt, response in zip(whose, starts, prompts, responses, strict=True):
        of_prompt = range(firsts[owner], firsts[owner] + prompt)
        places = [place[token] for token in [*of_prompt, *range(begin + prompt, begin + prompt + response)]]
        expected.append(alone(*(tensor[places] for tensor in row))[prompt - 1 : -1])
    expected = torch.cat(expected)

    torch.testing.assert_close(shared, expected, rtol=1e-10, atol=1e-12)
    gradients = torch.autograd.grad((shared * weights).sum(), row)
    wanted = torch.autograd.grad((expected * weights).sum(), row)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_precision(dtype):
    layout = SharedPrompts([3, 2, 3], [2, 4, 1], [0, 1, 0], "cpu")
    query, key, value = (torch.randn(1, heads, len(layout.tokens), SIZE, dtype=dtype) for heads in (4, 2, 2))
    assert layout.attention(query, key, value, None, 0.0).dtype == dtype
    wide = layout.attention(query.double(), key.double(), value.double(), SIZE**-0.5, 0.0)
    torch.testing.assert_close(layout.attention(query, key, value, None, 0.0).double(), wide, rtol=0.05, atol=0.05)

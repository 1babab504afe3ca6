"""Alignment of a whole batch, with two rollouts of three tokens at most."""

import torch
from tensordict import TensorDict

from prefix_opd.method.objective import PrefixOPD
from prefix_opd.verl_plugin.fields import read_train_batch


def nested(*rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def batch():
    """prompts [a b], [c]; responses [d e], [f]. The teacher's entry i scores token i + 1."""
    return TensorDict(
        dict(
            prompts=nested([1, 2], [3]),
            responses=nested([4, 5], [6]),
            response_mask=nested([1, 0], [1]),
            rollout_log_probs=nested([-0.4, -0.5], [-0.6]),
            old_log_probs=nested([-1.4, -1.5], [-1.6]),
            #                       b      d      e     dummy    f     dummy
            teacher_logprobs=nested([[-2.0], [-4.0], [-5.0], [0.0]], [[-6.0], [0.0]]),
            prefix_length=[2, 3],
            extra_fields=[{"prefix_opd": {"sampled": 1}}, {"prefix_opd": {}}],
        ),
        batch_size=2,
    )


def test_teacher_and_sampler_meet_at_the_same_token():
    found = read_train_batch(batch(), recomputed=False)
    torch.testing.assert_close(found.log_q, torch.tensor([-4.0, -5.0, -6.0]))
    torch.testing.assert_close(found.log_p, torch.tensor([-0.4, -0.5, -0.6]))
    assert found.prompt_lengths == [2, 1] and found.lengths == [2, 1]
    assert found.mask.tolist() == [True, False, True]
    assert found.positions()[found.mask].tolist() == [0, 0] and found.sampled_lengths == [1, 1]
    assert found.prefix_lengths == [2, 3]


def test_positions_count_the_students_tokens_over_all_turns():
    data = batch()
    data["prompts"], data["responses"] = nested([1], [3]), nested([4, 5, 6, 7, 8], [6])
    data["response_mask"] = nested([1, 1, 0, 1, 1], [1])
    data["rollout_log_probs"] = nested([-0.4, -0.5, 0.0, -0.6, -0.7], [-0.6])
    data["teacher_logprobs"] = nested([[-1.0], [-2.0], [-3.0], [-4.0], [-5.0], [0.0]], [[-6.0], [0.0]])
    data["extra_fields"] = [{"prefix_opd": {"sampled": 4}}, {"prefix_opd": {}}]
    found = read_train_batch(data, recomputed=False)
    assert found.lengths == [5, 1] and found.sampled_lengths == [4, 1]
    assert found.positions()[found.mask].tolist() == [0, 1, 2, 3, 0]
    # a tool's token has no advantage; the others log q - log p
    expected = torch.tensor([-0.6, -1.5, 0.0, -3.4, -4.3, -5.4])
    torch.testing.assert_close(found.advantage(PrefixOPD(), clamp=None), expected)


def test_a_teachers_top_k_meets_the_same_tokens():
    data = batch()
    pairs = [[[-2.0, -3.0], [-4.0, -4.5], [-5.0, -5.5], [0.0, 0.0]], [[-6.0, -6.5], [0.0, 0.0]]]
    data["teacher_logprobs"] = nested(*pairs)
    found = read_train_batch(data, recomputed=False, topk=True)
    assert found.log_q is None
    torch.testing.assert_close(found.topk, torch.tensor([[-4.0, -4.5], [-5.0, -5.5], [-6.0, -6.5]]))


def test_recomputed_log_probs_take_the_samplers_place():
    found = read_train_batch(batch(), recomputed=True)
    torch.testing.assert_close(found.log_p, torch.tensor([-1.4, -1.5, -1.6]))


def test_back_to_verls_rows():
    found = read_train_batch(batch(), recomputed=False)
    rows = found.nested(torch.tensor([1.0, 2.0, 3.0])).unbind()
    assert [row.tolist() for row in rows] == [[1.0, 2.0], [3.0]]


def test_as_rows_of_one_width_and_back():
    found = read_train_batch(batch(), recomputed=False)
    padded = found.padded(torch.tensor([1.0, 2.0, 3.0]))
    assert padded.tolist() == [[1.0, 2.0], [3.0, 0.0]]
    assert found.flat(padded).tolist() == [1.0, 2.0, 3.0]


def test_two_batches_have_one_fingerprint_only_if_they_are_the_same():
    same, other = batch(), batch()
    other["responses"] = nested([4, 5], [7])
    prints = [read_train_batch(data, recomputed=False).fingerprints() for data in (batch(), same, other)]
    assert prints[0] == prints[1]
    assert prints[0]["fingerprint/prompts"] == prints[2]["fingerprint/prompts"]
    assert prints[0]["fingerprint/rollouts"] != prints[2]["fingerprint/rollouts"]

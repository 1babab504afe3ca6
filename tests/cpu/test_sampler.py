"""vLLM's sampler as the CPU worker sets it up: seeds count, row by row."""

import torch
import verl  # noqa: F401  as in an engine: its worker's extension is verl's
from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler

from prefix_opd.base.patching import original

VLLMS_OWN = original("vllm.v1.sample.ops.topk_topp_sampler:TopKTopPSampler.forward_cpu")


def generators(seeds):
    return {row: torch.Generator().manual_seed(seed) for row, seed in seeds.items()}


def sampled(how, seeds):
    logits = torch.linspace(-1, 1, 4 * 50).reshape(4, 50).cos()
    return how(TopKTopPSampler(), logits.clone(), generators(seeds), None, None)[0].tolist()


def test_the_native_sampler_draws_what_the_cpu_one_draws():
    seeds = {0: 5, 1: 6, 2: 7, 3: 8}
    assert sampled(TopKTopPSampler.forward_native, seeds) == sampled(VLLMS_OWN, seeds)


def test_an_engine_of_ours_has_the_native_one():
    assert TopKTopPSampler.forward_cpu is TopKTopPSampler.forward_native is not VLLMS_OWN


def test_a_seed_counts_beside_rows_that_have_none():
    torch.manual_seed(0)
    alone = sampled(TopKTopPSampler.forward_native, {0: 5, 1: 6, 2: 7, 3: 8})
    beside = sampled(TopKTopPSampler.forward_native, {1: 6, 3: 8})
    assert [beside[1], beside[3]] == [alone[1], alone[3]]

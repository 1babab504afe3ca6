"""verl's platform "cpu"."""

import gc

import psutil
import pytest

from prefix_opd.cpu.platform import _CpuDevice


def test_emptying_the_cache_returns_scattered_memory():
    def resident() -> float:
        gc.collect()
        return psutil.Process().memory_info().rss / 2**20

    device, start = _CpuDevice("device"), resident()
    blocks = [bytearray(100_000) for _ in range(4_000)]  # below malloc's limit for pages of their own
    few = blocks[::50]
    del blocks
    if resident() - start < 200:
        pytest.skip("malloc returns such memory by itself")
    device.empty_cache()
    assert resident() - start < 100 and len(few) == 80

"""verl's platform "cpu"."""

import gc

import psutil
import pytest

from prefix_opd.cpu import platform


def test_emptying_the_cache_returns_scattered_memory_where_memory_is_short(monkeypatch):
    def resident() -> float:
        gc.collect()
        return psutil.Process().memory_info().rss / 2**20

    device, start = platform._CpuDevice("device"), resident()
    blocks = [bytearray(100_000) for _ in range(4_000)]  # below malloc's limit for pages of their own
    few = blocks[::50]
    del blocks
    if resident() - start < 200:
        pytest.skip("malloc returns such memory by itself")
    monkeypatch.setattr(platform, "SHORT", 0.0)
    before = resident()
    device.empty_cache()
    assert resident() > before - 50
    monkeypatch.setattr(platform, "SHORT", 1.0)
    device.empty_cache()
    assert resident() - start < 100 and len(few) == 80

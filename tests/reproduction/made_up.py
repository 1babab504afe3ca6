"""Invented records of runs, with numbers small enough to check by hand."""

from prefix_opd.analysis.prefixes import Point as PrefixPoint
from prefix_opd.analysis.prefixes import Prefixes
from prefix_opd.base.intervals import wilson
from reproduction.arms import ARMS
from reproduction.record import Point, Record

PROBLEMS = 400


def record(arm, seed, *accuracies, flops=8.0, seconds=40.0, signal=None, probe=None, problems=PROBLEMS):
    """Validations at 0, 10, 20, … with FLOP and seconds that grow linearly. SeqKD has only the last validation."""
    steps = len(accuracies) - 1 or 1
    points = [
        Point(10 * i, accuracy, problems, flops * i / steps, flops * i / steps / 2, seconds * i / steps)
        for i, accuracy in enumerate(accuracies)
    ]
    if arm.endswith("seqkd"):
        points = points[-1:]
    lengths = () if arm.endswith("seqkd") else tuple(range(1, 10 * steps + 1))
    found = (signal or {}, probe or {})
    return Record(arm, seed, 10 * steps, "finished", tuple(points), lengths, *found, commit="c0ffee", day="2026-01-02")


def prefixes(kind, shares):
    """``shares``: L -> accuracy."""
    points = [
        PrefixPoint(length, float(length), share, wilson(share, PROBLEMS), (shares[0] - share, 0.0, 0.0))
        for length, share in shares.items()
    ]
    return Prefixes(kind, "tiny:student", "tiny:teacher", PROBLEMS, 1, 6, points, giver=0.9)


def whole():
    """Every arm with two seeds, such that all findings of the paper hold."""
    signal = {step: {0: 2.0, 12: 1.0, 24: 0.5, 48: 0.5} for step in range(1, 41)}
    ends = {
        "full": (0.05, 0.39, 0.60, 0.70, 0.75, 100.0, 100.0),
        "prefix_3": (0.05, 0.40, 0.30, 0.20, 0.10, 2.0, 30.0),
        "prefix_12": (0.05, 0.41, 0.40, 0.30, 0.25, 6.0, 30.0),
        "prefix_24": (0.05, 0.42, 0.45, 0.40, 0.35, 12.0, 30.0),
        "schedule": (0.05, 0.40, 0.60, 0.70, 0.74, 40.0, 50.0),
        "window_72_96": (0.05, 0.06, 0.06, 0.06, 0.06, 50.0, 60.0),
        "last_24": (0.05, 0.06, 0.07, 0.06, 0.06, 100.0, 99.0),
        "seqkd": (0.0, 0.5, 0.5, 0.5, 0.60, 60.0, 20.0),
        "prefix_seqkd": (0.0, 0.0, 0.0, 0.0, 0.005, 10.0, 10.0),
        "forward_kl_24": (0.05, 0.10, 0.15, 0.15, 0.15, 12.0, 30.0),
        "lr_1e-4": (0.05, 0.20, 0.40, 0.60, 0.70, 40.0, 50.0),
        "lr_1e-3": (0.05, 0.20, 0.10, 0.02, 0.01, 40.0, 50.0),
        "one_step_early": (0.05, 0.40, 0.60, 0.70, 0.75, 100.0, 80.0),
    }
    assert list(ends) == [arm.name for arm in ARMS]
    return [
        record(
            arm,
            seed,
            *accuracies,
            flops=flops,
            seconds=seconds,
            signal=signal if arm == "full" else None,
            probe={1: {0: 2.0, 24: 0.5}, 40: {0: 0.1, 24: 1.0}} if arm == "prefix_3" else None,
        )
        for arm, (*accuracies, flops, seconds) in ends.items()
        for seed in (0, 1)
    ]

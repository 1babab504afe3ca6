"""The probe's comparison with the first one, and what a checkpoint and a log line are told of it: without engines."""

import types

import pytest
import torch

from prefix_opd.config.settings import ProbeSettings
from prefix_opd.run.events import EventLog
from prefix_opd.verl_plugin.trainer.probe import Probe, profile

FIRST = {0: (9.0, 4), 12: (1.0, 4), 24: (1.0, 1)}


@pytest.fixture
def probe(tmp_path):
    """A probe before its first run."""
    trainer = types.SimpleNamespace(
        settings=types.SimpleNamespace(probe=ProbeSettings(every=2, tail_warning=1.5)), events=EventLog(tmp_path)
    )
    return Probe(trainer)


def test_a_tail_that_rises_above_the_threshold_is_warned_of(probe, caplog):
    caplog.set_level("WARNING", logger="prefix_opd")
    assert probe._compare(FIRST, 1, 12) == {"probe/tail_ratio": 1.0}
    # (1.5*4 + 1.5*1) / 5 = 1.5 against (1*4 + 1*1) / 5 = 1: not above it
    assert probe._compare({12: (1.5, 4), 24: (1.5, 1)}, 3, 12) == {"probe/tail_ratio": 1.5}
    assert not caplog.records
    # (1*4 + 5*1) / 5 = 1.8; the bin from 24 has grown most
    assert probe._compare({0: (99.0, 4), 12: (1.0, 4), 24: (5.0, 1)}, 5, 12) == {"probe/tail_ratio": 1.8}
    (record,) = caplog.records
    told = record.getMessage()
    assert "step 5: mean |reverse KL| beyond L=12 is 1.80 times" in told and "position 24: 5.00 times" in told


def test_the_profile_has_the_mean_square_of_each_bin():
    """Gaps 1 and -3 before position 2, 2 from it on."""
    log_p, log_q = torch.tensor([-1.0, -4.0, -1.0]), torch.tensor([-2.0, -1.0, -3.0])
    assert profile(log_p, log_q, torch.tensor([0, 1, 2]), 2) == {
        "probe/reverse_kl_by_position/0": -1.0,
        "probe/reverse_kl_abs_by_position/0": 2.0,
        "probe/reverse_kl_square_by_position/0": 5.0,
        "probe/tokens_by_position/0": 2,
        **{f"probe/reverse_kl_{kind}by_position/2": 2.0 for kind in ("", "abs_")},
        "probe/reverse_kl_square_by_position/2": 4.0,
        "probe/tokens_by_position/2": 1,
    }


def test_nothing_beyond_the_cap_is_no_ratio(probe):
    assert probe._compare(FIRST, 1, 40) == {}
    # L reaches beyond what the first probe saw; that stays what is compared with
    assert probe.first == FIRST


def test_what_was_found_is_read_as_often_as_asked_and_taken_once(probe):
    probe.found, probe.seconds = {"probe/tail_ratio": 1.8}, 3.0
    assert probe.metrics() == probe.metrics() == {"prefix_opd/probe/tail_ratio": 1.8}
    assert probe.take() == {"prefix_opd/probe/tail_ratio": 1.8}
    assert (probe.take(), probe.metrics(), probe.seconds) == ({}, {}, 0.0)


def test_a_resumed_run_compares_with_the_same_first_probe(probe):
    probe.first, probe.flops = FIRST, 7.0
    resumed = Probe(probe.trainer)
    resumed.load_state_dict({"first": {str(k): list(v) for k, v in FIRST.items()}, "flops": 7.0})  # by way of JSON
    assert resumed.state_dict() == probe.state_dict()

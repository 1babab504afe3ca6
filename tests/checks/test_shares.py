"""Each engine's share of a GPU is known before anything starts."""

import pytest
from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.checks.cards import smallest_card
from prefix_opd.checks.placement import KV_BYTES as BYTES
from prefix_opd.checks.placement import fit_engines
from prefix_opd.config.compose import compose

pytestmark = pytest.mark.usefixtures("cached_files")

GIB = 2**30
ROLLOUT = "actor_rollout_ref.rollout"
INFERENCE = "distillation.teacher_models.teacher_model.inference"
SMALL = ("experiment=qwen3_1.7b/schedule", "layout=one_gpu")
SHARED = "prefix_opd.teacher.placement=shared"


def fitted(*overrides):
    """(bytes of the cache, gpu_memory_utilization) of student and teacher."""
    config = compose(list(overrides))
    fit_engines(config)
    nodes = [OmegaConf.select(config, node) for node in (ROLLOUT, INFERENCE)]
    return [(OmegaConf.select(node, BYTES), node.gpu_memory_utilization) for node in nodes]


def test_an_open_share_becomes_bytes():
    (student, asked), (teacher, asked_too) = fitted(*SMALL)
    # a card of 79 GiB less 8%; trainer 12 B and vLLM 2 B of 1 720 451 072 weights, 3 GiB of graphs, teacher asleep 1
    assert student == pytest.approx(0.92 * 79 * GIB - 14 * 1_720_451_072 - 4 * GIB, abs=2**20)
    assert teacher == pytest.approx((18_433 + 2 * 8_192) * 2 * 36 * 8 * 128 * 2, abs=2**20)
    assert asked == asked_too == 0.01  # of the GPU must be free when vLLM starts


def test_what_the_user_gives_stays():
    own = f"+{ROLLOUT}.{BYTES}=4294967296"
    (student, _), (teacher, _) = fitted(*SMALL, own)
    assert student == 4294967296 and teacher > 2 * GIB
    # a share of a shared card is turned into bytes: vLLM is not to measure beside another engine
    (student, _), _ = fitted(*SMALL, f"{ROLLOUT}.gpu_memory_utilization=0.5")
    assert student == pytest.approx(0.5 * 79 * GIB - 2 * 1_720_451_072 - 3 * GIB, abs=2**20)


def test_engines_on_gpus_of_their_own_measure_them():
    assert fitted("experiment=qwen3_8b/schedule", "layout=node_8x80gb_dedicated") == [(None, 0.8), (None, 0.7)]
    # the platform gives the bytes
    for placed in ([], [SHARED]):
        assert [size for size, _ in fitted("experiment=tiny/schedule", *placed)] == [268435456] * 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [SMALL[0], "layout=one_gpu", f"{INFERENCE}.gpu_memory_utilization=0.7"],
            "peak_scoring: 19.2 (trainer) + 2.0 (student) + 55.3 (teacher) + 9.3 (logits) = 85.8 GiB exceeds 79 GiB",
        ),
        (
            ["experiment=qwen3_8b/schedule", "layout=one_gpu"],
            "peak_sampling: 91.5 (trainer) + 1.0 (teacher) + 18.3 (student) = 110.8 GiB exceeds 79 GiB of a card",
        ),
        (
            ["experiment=qwen3_0.6b/full", "layout=one_gpu_24gb", f"{ROLLOUT}.gpu_memory_utilization=0.2"],
            f"{ROLLOUT}: 0.29 GiB of 22 are left for its KV cache, but one sequence takes 0.44",
        ),
    ],
)
def test_a_share_that_does_not_fit_is_refused(overrides, message):
    with pytest.raises(UserError) as error:
        fit_engines(compose(overrides))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Puts an nvidia-smi on the path that prints these lines."""

    def show(*lines):
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return show


@pytest.mark.parametrize(
    ("line", "name", "gib"),
    [
        ("NVIDIA H100 80GB HBM3, 81559, 4, 580.82.07", "h100", 79.65),
        ("NVIDIA A100-SXM4-40GB, 40960, 4, 550.54", "a100", 40),
        ("NVIDIA L4, 23034, 1, 550.54", "l4", 22.49),
        ("NVIDIA L40S, 46068, 1, 550.54", None, 44.99),
        ("NVIDIA GeForce RTX 4090, 24564, 1, 550.54", "rtx4090", 23.99),
    ],
)
def test_the_card_of_this_machine(machine, line, name, gib):
    machine(line, line)
    found = smallest_card()
    assert (found.accelerator, found.memory_gib) == (name, pytest.approx(gib, abs=0.01))


def test_the_smallest_card_counts(machine):
    machine("NVIDIA H100 80GB HBM3, 81559, 4, 550.54", "NVIDIA A100X, 61440, 4, 550.54")
    assert smallest_card().memory_gib == 60
    (student, _), _ = fitted(*SMALL)
    assert student == pytest.approx(0.92 * 60 * GIB - 14 * 1_720_451_072 - 4 * GIB, abs=2**20)


def test_without_a_driver_the_nominal_memory_counts(machine):
    machine("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    assert smallest_card().memory_gib is None

"""Checks of a GPU machine: what nvidia-smi prints, what the probe answers, what the host lacks."""

import json
import os
import shutil
import stat
import sys
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from prefix_opd.checks import gpu, gpu_probe
from prefix_opd.checks.cards import parse
from prefix_opd.checks.case import Case
from prefix_opd.checks.doctor import Status, diagnose, quick
from prefix_opd.config.compose import compose
from prefix_opd.cost.models import sized

TWO = """NVIDIA H100 80GB HBM3, 81559, 4, 580.82.07
NVIDIA H100 80GB HBM3, 81559, 40960, 580.82.07
"""


@pytest.fixture
def on_gpus(tiny_data):
    given = ["experiment=tiny/schedule", "platform=gpu", "trainer.n_gpus_per_node=1"]
    return Case.open(compose([*given, f"data.train_files={tiny_data['train']}", f"data.val_files={tiny_data['test']}"]))


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """``nvidia_smi(text)`` puts a program of this name, which prints the text, before all others."""

    def install(text: str) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!{sys.executable}\nprint({text!r}, end='')\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    gpu._probe.cache_clear()
    yield install
    gpu._probe.cache_clear()


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (TWO, [(81559, 4), (81559, 40960)]),
        ("NVIDIA L4, 23034, 1, 550.54\n", [(23034, 1)]),
        ("Some card, with a comma, 1000, 2, 1.0\n", [(1000, 2)]),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", []),
        ("NVIDIA GB10, [N/A], [N/A], 580.95\n", []),
        ("", []),
    ],
)
def test_cards_in_the_words_of_nvidia_smi(told, found):
    assert [(card.total_mib, card.used_mib) for card in parse(told)] == found


def test_a_card_that_others_use_is_named(on_gpus, nvidia_smi):
    nvidia_smi(TWO)
    finding = gpu.cards(on_gpus)
    assert finding.status is Status.WARN
    assert "39.6 of 79.6 GiB free; driver 580.82.07; others use GPU 1" in finding.reason


def test_fewer_cards_than_the_run_asks_for(on_gpus, nvidia_smi):
    nvidia_smi(TWO.splitlines()[0] + "\n")
    finding = gpu.cards(on_gpus)
    assert finding.status is Status.WARN and finding.reason.endswith("the run asks for 2")


def test_a_node_of_a_cluster_needs_its_own_gpus_alone(on_gpus, nvidia_smi, monkeypatch):
    """Student and teacher have one node of two GPUs each."""
    nodes = {"trainer": {"n_gpus_per_node": 2}, "distillation": {"n_gpus_per_node": 2}}
    case = replace(on_gpus, config=OmegaConf.merge(on_gpus.config, nodes))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    nvidia_smi(TWO.replace("40960", "4"))
    assert gpu.cards(case).status is Status.OK
    nvidia_smi(TWO.splitlines()[0] + "\n")
    assert gpu.cards(case).reason.endswith("; the run asks for 2 on a node")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert "8 are advised" in gpu.cpus(case).reason  # 4 for each of 2 GPUs


def test_without_a_card_each_check_says_so(on_gpus, nvidia_smi):
    nvidia_smi("No devices were found\n")
    found = {name: check(on_gpus) for name, check in gpu.CHECKS}
    assert "nvidia-smi lists no GPU; the run asks for 2" in found["GPUs"].reason
    for name in ("packed attention", "GPU memory between processes", "NCCL"):
        assert found[name].status is Status.OK and found[name].reason == gpu.NO_GPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="the probe would work")
def test_what_the_probe_cannot_do_fails(on_gpus, nvidia_smi):
    """The real probe, on a machine whose torch finds no GPU."""
    nvidia_smi(TWO)
    for check in (gpu.attention, gpu.shared_memory):
        finding = check(on_gpus)
        assert finding.status is Status.FAIL and finding.remedy, finding
    assert gpu.sum_over_gpus(on_gpus).reason == "one GPU: NCCL has nothing to sum over"


@pytest.mark.parametrize(
    ("check", "answer", "status", "told"),
    [
        (gpu.attention, {"by": "torch", "output": 0.004, "gradient": 0.006}, Status.OK, "output 4.0e-03"),
        (gpu.attention, {"by": "flash-attn", "output": 0.004, "gradient": 0.3}, Status.FAIL, "allowed 0.02"),
        (gpu.shared_memory, {"right": True}, Status.OK, "CUDA IPC"),
        (gpu.shared_memory, {"right": False}, Status.FAIL, "other numbers"),
        (gpu.sum_over_gpus, {"gpus": 2}, Status.OK, "over 2 GPUs"),
        (gpu.sum_over_gpus, {"error": "NCCL error"}, Status.FAIL, "NCCL error"),
    ],
)
def test_what_the_probe_answers(on_gpus, monkeypatch, check, answer, status, told):
    monkeypatch.setattr(gpu, "_probe", lambda: json.loads(json.dumps(dict.fromkeys(gpu_probe.TRIALS, answer))))
    finding = check(on_gpus)
    assert finding.status is status and told in finding.reason


def test_sequences_of_a_pack_attend_to_themselves_alone():
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(gpu_probe.LENGTHS), 2, 8) for _ in range(3))
    row = torch.arange(len(gpu_probe.LENGTHS)).repeat_interleave(torch.tensor(gpu_probe.LENGTHS))
    mask = (row[:, None] == row) & torch.ones(len(row), len(row)).tril().bool()
    scores = (torch.einsum("ihd,jhd->hij", q, k) / 8**0.5).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(gpu_probe.alone(q, k, v), torch.einsum("hij,jhd->ihd", scores.softmax(-1), v))


def test_the_host_is_too_small(on_gpus, monkeypatch):
    assert gpu.host_memory(on_gpus).status is Status.OK
    usage = type("Usage", (), {"total": 64 * 2**20, "free": 64 * 2**20})
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    finding = gpu.shm(on_gpus)
    assert finding.status is Status.WARN and finding.reason == "/dev/shm has 0.1 of 0.1 GiB free"
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    finding = gpu.cpus(on_gpus)
    assert finding.status is Status.WARN and "8 are advised" in finding.reason


def test_a_teacher_elsewhere_takes_no_memory_of_this_host(on_gpus, monkeypatch):
    monkeypatch.setattr(gpu, "GIB", 1)
    student, teacher = (sized(on_gpus.config, one.key).parameters for one in (on_gpus.student, on_gpus.teacher))
    assert f"; {4 * student + 2 * teacher:.1f} are needed" in gpu.host_memory(on_gpus).reason
    config = OmegaConf.merge(on_gpus.config, {"prefix_opd": {"teacher": {"url": "http://localhost:1/v1"}}})
    assert f"; {4 * student:.1f} are needed" in gpu.host_memory(Case.open(config)).reason


@pytest.mark.parametrize(("tied", "copies"), [(False, 1), (True, 8)])
def test_every_rank_loads_a_tied_student(on_gpus, monkeypatch, tmp_path, tied, copies):
    monkeypatch.setattr(gpu, "GIB", 1)
    folder = shutil.copytree(on_gpus.student.place, tmp_path / "student")
    published = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**published, "tie_word_embeddings": tied}))
    own = {"actor_rollout_ref": {"model": {"path": str(folder)}}, "trainer": {"n_gpus_per_node": 8}}
    case = Case.open(
        OmegaConf.merge(on_gpus.config, own, {"prefix_opd": {"teacher": {"url": "http://localhost:1/v1"}}})
    )
    student = sized(case.config, case.student.key).parameters
    assert f"; {4 * student * copies:.1f} are needed" in gpu.host_memory(case).reason


def test_the_doctor_looks_at_gpus_where_a_run_has_them(on_gpus, nvidia_smi, tiny_data):
    nvidia_smi("")
    names = [name for name, _ in gpu.CHECKS]
    assert [finding.check for finding in diagnose(on_gpus.config)][-len(names) :] == names
    data = [f"data.train_files={tiny_data['train']}", f"data.val_files={tiny_data['test']}"]
    config = compose(["experiment=tiny/schedule", *data])
    assert not {finding.check for finding in diagnose(config)} & set(names)
    assert not {finding.check for finding in quick(config)} & set(names)


def test_a_missing_triton_is_told_before_each_run(on_gpus, monkeypatch):
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    finding = next(one for one in quick(on_gpus.config) if one.check == "model runner")
    assert finding.status is Status.WARN and "older model runner" in finding.reason

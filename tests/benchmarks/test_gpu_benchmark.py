"""The benchmark on GPUs without one: its cases compose, its rows resume, its page says what they say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer

from benchmarks.cases import NATIVE, NATIVE_POLL, OURS
from benchmarks.gpu import cards, command, page
from benchmarks.gpu.cases import CPU, GPU, OWN, SHARED, GpuCase, cases
from benchmarks.gpu.runs import overrides
from benchmarks.models import BEYOND, PAIRS, REHEARSAL, make_models, model_folders
from benchmarks.prompts import TRAIN, write_words
from prefix_opd.config.settings import Settings
from prefix_opd.launch import prepare
from prefix_opd.method.flops import ModelShape
from prefix_opd.method.schedule import prefix_lengths

CAPS = (4, 8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_models(REHEARSAL, folder)
    return model_folders(REHEARSAL, folder)


def case(system=OURS, platform=CPU, **fields):
    return replace(cases(1, [system], platform, caps=CAPS)[0], model=REHEARSAL, **fields)


def prepared(one, folder, models):
    write_words(one.words, 700, folder)
    return prepare(overrides(one, folder, models), verls_own=one.system != OURS)


def test_a_pair_has_the_published_shape_and_a_tokenizer_of_its_size(models):
    assert PAIRS["1.7B-8B"] == {"student": ("Qwen3-1.7B-Base", {}), "teacher": ("Qwen3-8B", {})}
    shape = ModelShape.from_folder(models["student"])
    tokenizer = AutoTokenizer.from_pretrained(models["student"])
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") == shape.vocab_size - BEYOND
    assert tokenizer("w5 w7 <think>")["input_ids"] == [5, 7, tokenizer.convert_tokens_to_ids("<think>")]
    # Qwen3's own ids
    assert 151936 - BEYOND == 151643


@pytest.mark.parametrize("platform", [CPU, GPU])
def test_ours_has_the_caps_by_its_schedule(platform, tmp_path, models):
    one = case(platform=platform)
    config = prepared(one, tmp_path, models)
    settings = Settings.from_node(config.prefix_opd)
    steps = range(1, one.steps + 1)
    assert [prefix_lengths(settings.schedule, step, 1, one.longest)[0] for step in steps] == [4, 4, 4, 8, 8, 8]
    assert settings.teacher.placement == SHARED
    assert config.trainer.n_gpus_per_node == 1


@pytest.mark.parametrize("platform", [CPU, GPU])
def test_verls_own_has_the_same_caps_models_and_update(platform, tmp_path, models):
    ours, native = (prepared(case(system, platform), tmp_path, models) for system in (OURS, NATIVE_POLL))
    loops = native.actor_rollout_ref.rollout.agent
    (loop,) = yaml.safe_load(Path(loops.agent_loop_config_path).read_text())
    assert loop == {**loop, "name": loops.default_agent_loop, "caps": [4, 4, 4, 8, 8, 8]}
    for node in ("model", "actor"):
        assert native.actor_rollout_ref[node] == ours.actor_rollout_ref[node]
    assert native.distillation.teacher_models == ours.distillation.teacher_models
    assert native.trainer.v1.trainer_mode == "sync" and native.distillation.distillation_loss.loss_mode == "k1"


def test_verls_own_loop_asks_for_the_cap_of_the_step(monkeypatch):
    import asyncio

    from benchmarks.gpu.agent_loop import CappedAgentLoop, SingleTurnAgentLoop

    async def run(self, sampling_params, **kwargs):
        return sampling_params, kwargs

    monkeypatch.setattr(SingleTurnAgentLoop, "run", run)
    loop = object.__new__(CappedAgentLoop)
    loop.caps = [4, 8]
    given = {"temperature": 1.0}
    assert asyncio.run(loop.run(given, global_steps=2)) == ({"temperature": 1.0, "max_tokens": 8}, {"global_steps": 2})
    assert given == {"temperature": 1.0}, "verl shares it among the rollouts of a prompt"


def test_two_cards_compare_placements():
    found = cases(2, (OURS, NATIVE), caps=(256,))
    assert [(one.system, one.placement, one.cards) for one in found] == [
        *((OURS, SHARED, 1), (NATIVE, SHARED, 1)),
        *((OURS, OWN, 2), (OURS, SHARED, 2)),
    ]


def test_memory_of_a_step_is_the_most_between_its_ends(tmp_path):
    file = tmp_path / "memory.csv"
    times = ["2026/11/26 12:00:00.000", "2026/11/26 12:00:01.000", "2026/11/26 12:00:01.000", "2026/11/26 12:00:02.500"]
    used = (1024, 2048, 3072, 1536)
    file.write_text("".join(f"{t}, {u}\n" for t, u in zip(times, used, strict=True)) + "2026/11/26 12:0")
    first = min(cards._samples(file))
    assert cards.peaks(file, [first + 1.0, first + 2.0, first + 3.0]) == [3.0, None, 1.5]
    assert cards.peaks(tmp_path / "none.csv", [first]) == [None]
    assert cards.peak_flops("NVIDIA H100 80GB HBM3 (driver 580)") == 989e12 and cards.peak_flops("GeForce") is None


def step(number, cap, seconds, counts=True, flops=1e15):
    phases = dict.fromkeys(page.PHASES.values(), 0.0) | {"rollout and teacher": seconds / 2, "update": seconds / 2}
    parts = {"sampling": flops / 4, "teacher_scoring": flops / 4, "student_scoring": 0.0, "update": flops / 2}
    return {
        **{"step": number, "cap": cap, "seconds": seconds, "counts": counts, "phases": {**phases, "rest": 0.0}},
        **{"tokens": 32 * cap, "sequences": 32, "flops": flops, "flops_by_phase": parts},
        **{"memory_gib": 60.5, "trainer_gib": None},
    }


ABOUT = {
    "commit": "c0ffee",
    "cards": ["NVIDIA H100 80GB HBM3 (driver 580)"],
    "machine": {"cpu": "a CPU", "cores": 16, "memory_gib": 128},
    "versions": {"verl": "0.9.1"},
    "date": "2026-11-26T16:45:00+00:00",
}


def rows(system, short, long):
    """Rows of a run as they are stored: caps 256 and 1024 with 4 times its FLOP, the last step missing."""
    one = GpuCase(system, (256, 1024))
    steps = [step(1, 256, 9.0, counts=False), step(2, 256, short), step(3, 256, short)]
    steps += [step(4, 1024, 9.0, counts=False), step(5, 1024, long, flops=4e15)]
    answer = {"steps": steps, "launch": 100.0, "error": "exit code 124"}
    return [json.loads(json.dumps(command.row_at(one.at(cap), answer, ABOUT))) for cap in one.caps]


def test_a_cut_run_keeps_what_it_finished():
    whole, cut = rows(OURS, 2.0, 5.0)
    assert "error" not in whole and len(whole["steps"]) == 3
    assert cut["error"] == "1 of 2 steps: exit code 124" and len(cut["steps"]) == 2
    assert page.Measured.of(cut).case == GpuCase(OURS, (1024,))
    assert command.key(whole) != command.key(cut)


def test_the_page():
    stored = [*rows(OURS, 2.0, 5.0), *rows(NATIVE_POLL, 4.0, 10.0)]
    told = page.page(page.latest(stored), [GpuCase(OURS, (256, 1024, 4096))], "a row of the update")
    lines = [line.strip("| ") for line in told.splitlines()]
    assert "256 | ours / verl's own OPD, poll 0.05 s | shared, 1 card | 0.50 | 0.50" in lines
    # 1 - 2/5 of the seconds, 1 - 1/4 of the FLOP
    assert "256 | ours | shared, 1 card | 1024 | 0.40 | 0.25 | 0.80" in lines
    # 32 x 256 tokens in 2 s; 1e15 FLOP in 2 s of 989e12 a second; half of it in the 1 s of an update
    assert "256 | ours | shared, 1 card | 4096 | 50.6% | 50.6% | – | 50.6% | 60.5 | –" in lines
    assert "ours | shared, 1 card | 4096" in lines and "a row of the update" in lines
    assert "Commit c0ffee, 2026-11-26. NVIDIA H100 80GB HBM3" in told


def test_of_two_rows_of_a_case_the_one_with_more_steps_counts():
    whole, cut = rows(OURS, 2.0, 5.0)
    fewer = {**whole, "steps": whole["steps"][:2]}
    other = {**whole, "commit": "decaf"}
    assert page.latest([other, whole, fewer, cut]) == [whole, cut]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--platform", "tpu"], "--platform tpu: is no platform"),
        (["--caps", "0"], "--caps 0: must be a whole number of at least 1"),
        (["--caps", "8", "8"], "--caps 8 8: names one twice"),
        (["--minutes", "0"], "--minutes 0: must be more than 0"),
        (["--systems", "trl_gkd"], "--systems trl_gkd: is no system"),
        ([], "--gpu: needs a GPU, and nvidia-smi shows none"),
    ],
)
def test_bad_options(given, told, capsys, monkeypatch):
    from benchmarks.__main__ import main

    monkeypatch.setattr(command, "cards", lambda: [])
    assert main(["--gpu", *given]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_prompts_have_as_many_tokens_as_words(tmp_path, models):
    import pyarrow.parquet as pq

    write_words(12, 700, tmp_path, count=5)
    tokenizer = AutoTokenizer.from_pretrained(models["student"])
    messages = [row["prompt"][0]["content"] for row in pq.read_table(tmp_path / TRAIN).to_pylist()]
    assert [len(tokenizer(message)["input_ids"]) for message in messages] == [12] * 5

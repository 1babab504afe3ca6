"""The shipped weights: small, of the stated shape, and as able and as unable as the README says."""

from __future__ import annotations

import json

import pytest

from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.cells import Cells
from prefix_opd.miniature.chain import Chain
from prefix_opd.miniature.measure import measure_folder
from prefix_opd.miniature.tokenizer import build_tokenizer

PROBLEMS = 256


@pytest.fixture(scope="module")
def measured():
    """Each model's accuracy. About 20 seconds on one core."""
    return {
        name: measure_folder(folder, PROBLEMS, task=Cells if name.startswith("cells") else Chain)
        for name, folder in shipped_models().items()
    }


@pytest.mark.parametrize("name", ["teacher", "cells_teacher"])
def test_teacher_is_good(measured, name: str) -> None:
    assert measured[name].share >= 0.9, measured[name]
    assert measured[name].end_of_turn > 0.98


@pytest.mark.parametrize("name", ["student", "cells_student"])
def test_base_student_is_bad_and_ends_like_a_base_model(measured, name: str) -> None:
    assert measured[name].share <= 0.15, measured[name]
    assert measured[name].end_of_text > 0.8
    # On-policy sampling must be able to discover the teacher's end token.
    assert 0.02 < measured[name].end_of_turn < 0.2


def test_the_reader_uses_a_solution_and_is_a_base_student_without(measured) -> None:
    assert measured["reader"].share <= 0.15, measured["reader"]
    solved = measure_folder(shipped_models()["reader"], problems=64, solved=True)
    assert solved.share >= 0.5, solved


def test_answers_fit(measured) -> None:
    """The quick style is shorter, so distillation makes answers longer, as with real models."""
    assert 30 < measured["student"].mean_tokens < 80 < measured["teacher"].mean_tokens < 140 < Chain.MAX_TOKENS


@pytest.mark.parametrize("role", shipped_models())
def test_no_spare_rows_in_the_vocabulary(role: str) -> None:
    config = json.loads((shipped_models()[role] / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["vocab_size"] == len(build_tokenizer())


@pytest.mark.parametrize("role", shipped_models())
def test_generation_stops_on_both_ends(role: str) -> None:
    first = "<|im_end|>" if role.endswith("teacher") else "<|endoftext|>"
    config = json.loads((shipped_models()[role] / "generation_config.json").read_text())
    tokens = build_tokenizer().convert_ids_to_tokens(config["eos_token_id"])
    assert set(tokens) == {"<|im_end|>", "<|endoftext|>"} and tokens[0] == first


def test_all_files_together_are_small() -> None:
    size = sum(f.stat().st_size for folder in shipped_models().values() for f in folder.rglob("*") if f.is_file())
    assert size <= 6 * 2**20

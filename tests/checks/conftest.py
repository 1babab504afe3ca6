"""Pairs of models and data files with one defect each, made from the miniature."""

import copy
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefix_opd.checks.case import Case
from prefix_opd.checks.run_data import check_data
from prefix_opd.config.compose import compose
from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.data import write_data


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("doctor_data"), train=40, test=8)


@pytest.fixture
def case(tiny_data):
    """``case(*overrides)`` opens a miniature run with small data files."""

    def open_case(*overrides: str, **opening) -> Case:
        given = [f"data.train_files={tiny_data['train']}", f"data.val_files={tiny_data['test']}", *overrides]
        return Case.open(compose(["experiment=tiny/schedule", *given]), **opening)

    return open_case


@pytest.fixture
def model(tmp_path):
    """``model(role, **changes)`` copies a model; ``changes`` map a file's stem to new top-level JSON entries."""

    def copy(role: str, chat_template: str | None = None, **changes: dict) -> Path:
        folder = tmp_path / role
        shutil.copytree(shipped_models()[role], folder)
        for stem, entries in changes.items():
            path = folder / f"{stem}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
        if chat_template is not None:
            (folder / "chat_template.jinja").write_text(chat_template)
        return folder

    return copy


@pytest.fixture
def questions(tmp_path, tiny_data):
    """``questions([text, ...])`` writes training rows with these questions."""

    def write(texts: list[str]) -> Path:
        table = pq.read_table(tiny_data["train"]).slice(0, len(texts))
        prompts = pa.array([[{"role": "user", "content": text}] for text in texts], table.schema.field("prompt").type)
        path = tmp_path / "questions.parquet"
        pq.write_table(table.set_column(table.schema.get_field_index("prompt"), "prompt", prompts), path)
        return path

    return write


@pytest.fixture(scope="session")
def composed():
    return compose(["experiment=tiny/schedule"])


@pytest.fixture
def checked(composed):
    def check(key, files):
        config = copy.deepcopy(composed)
        config.data[key.rpartition(".")[2]] = files
        return check_data(config, key)

    return check

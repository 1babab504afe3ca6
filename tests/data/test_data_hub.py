"""The hub's way: the real ``datasets`` reads small copies in the hub's layout; only a refusal is pretended."""

import dataclasses

import pytest
from data_copies import write_aime

from prefix_opd.base.errors import UserError
from prefix_opd.data import KNOWN, PrepareSettings, prepare

datasets = pytest.importorskip("datasets")

GPQA_CARD = """---
configs:
- config_name: gpqa_main
  data_files: gpqa_main.csv
- config_name: gpqa_diamond
  data_files: gpqa_diamond.csv
---
"""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def on_the_hub(monkeypatch):
    """Redirect a known set to a local folder, which ``datasets`` reads like the hub."""

    def place(name, folder):
        monkeypatch.setitem(KNOWN, name, dataclasses.replace(KNOWN[name], repo=str(folder)))

    return place


def run(name, out, **settings):
    return prepare(PrepareSettings(name, out=out, **settings))


def test_openthoughts_is_streamed(on_the_hub, openthoughts, tmp_path, monkeypatch):
    on_the_hub("openthoughts3", openthoughts)
    load, streaming = datasets.load_dataset, []

    def watched(*args, **kwargs):
        streaming.append(kwargs["streaming"])
        return load(*args, **kwargs)

    monkeypatch.setattr("datasets.load_dataset", watched)
    hub = run("openthoughts3", tmp_path / "a", count=10, responses_per_question=2)
    assert streaming == [True, True]  # one pass to choose, one for the responses
    assert hub["source"] == {
        "kind": "hub",
        "repo": str(openthoughts),
        "config": None,
        "split": "train",
        "revision": KNOWN["openthoughts3"].revision,
        "commit": None,
    }
    local = run("openthoughts3", tmp_path / "b", count=10, responses_per_question=2, from_dir=openthoughts)
    assert hub["files"] == local["files"]


@pytest.mark.parametrize("name", ["gpqa-main", "gpqa-diamond", "math500", "mmlu-pro", "aime2024"])
def test_each_set_reads_the_same_from_the_hub_and_from_files(name, on_the_hub, request, tmp_path):
    copies = {"math500": "math500", "mmlu-pro": "mmlu", "aime2024": "aime"}
    folder = request.getfixturevalue(copies.get(name, "gpqa"))
    if name.startswith("gpqa"):
        (folder / "README.md").write_text(GPQA_CARD)
    on_the_hub(name, folder)
    count = 9 if name == "mmlu-pro" else None
    hub = run(name, tmp_path / "a", count=count)
    local = run(name, tmp_path / "b", count=count, from_dir=folder)
    assert hub["files"] == local["files"]


def test_a_missing_column_on_the_hub_is_named(on_the_hub, tmp_path):
    folder = write_aime(tmp_path / "aime", [{"id": 1, "question": "1+1?", "answer": "002"}])
    on_the_hub("aime2024", folder)
    with pytest.raises(UserError, match="aime2024, row 0, column 'problem': is missing; the row has 'id', 'question'"):
        run("aime2024", tmp_path / "out")
    assert not (tmp_path / "out").exists()


REFUSALS = [
    "Dataset 'Idavidrein/gpqa' is a gated dataset on the Hub. You must be authenticated to access it.",
    "Dataset 'Idavidrein/gpqa' doesn't exist on the Hub or cannot be accessed.",
]


@pytest.mark.parametrize("message", REFUSALS)
def test_a_gated_set_says_how_to_get_access(message, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError(message)

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(UserError) as caught:
        run("gpqa-main", tmp_path / "out")
    assert str(caught.value) == (
        f"gpqa-main (Idavidrein/gpqa at {KNOWN['gpqa-main'].revision}): is gated and access was refused; "
        "accept its terms at https://huggingface.co/datasets/Idavidrein/gpqa and log in with `hf auth login`, "
        "or give a local copy with --from DIR"
    )
    assert not (tmp_path / "out").exists()


def test_a_set_that_cannot_be_reached_names_the_other_way(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("Couldn't reach 'Idavidrein/gpqa' on the Hub\nand more")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(UserError, match=r"from the hub \(ConnectionError: .*\); .* --from DIR") as caught:
        run("gpqa-main", tmp_path / "out")
    assert "and more" not in str(caught.value)
    with pytest.raises(UserError, match="--from DIR"):
        run("openthoughts3", tmp_path / "out")


def test_a_failure_in_the_middle_of_a_stream_writes_nothing(tmp_path, monkeypatch, on_the_hub, openthoughts):
    on_the_hub("openthoughts3", openthoughts)

    def break_off(*_, **__):
        yield {"domain": "math", "conversations": [{"from": "human", "value": "1+1?"}]}
        raise OSError("connection reset")

    monkeypatch.setattr("datasets.load_dataset", break_off)
    with pytest.raises(UserError, match=r"OSError: connection reset.*--from DIR"):
        run("openthoughts3", tmp_path / "out", count=1)
    assert not (tmp_path / "out").exists()

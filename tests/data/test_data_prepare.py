"""From local copies to verl's rows: what is chosen, what stands in a row, and that bytes repeat."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_copies import openthoughts_rows, write_openthoughts

from prefix_opd import cli
from prefix_opd.base.files import sha256_of
from prefix_opd.data import PrepareSettings, prepare
from prefix_opd.data.layouts import Problem
from prefix_opd.data.rows import user_message

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def run(name, source, out, **settings):
    return prepare(PrepareSettings(name, out=out, from_dir=source, **settings))


def rows_of(folder, name="test.parquet"):
    return pq.read_table(folder / name).to_pylist()


def questions_of(folder):
    return [row["prompt"][0]["content"] for row in rows_of(folder, "train.parquet")]


def test_a_row_of_math500(math500, tmp_path):
    manifest = run("math500", math500, tmp_path)
    assert rows_of(tmp_path)[3] == {
        "data_source": "math500",
        "prompt": [{"role": "user", "content": "Compute $\\frac{3}{2}$."}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "\\frac{3}{2}"},
        "extra_info": {
            "split": "test",
            "index": 3,
            "id": "test/3.json",
            "category": "Algebra",
            "n_options": 0,
            "question": "",
        },
    }
    assert manifest["counts"]["selected"] == 20
    assert manifest["counts"]["by_category"] == {"Algebra": 10, "Geometry": 10}


def test_aime_keeps_its_order_and_its_answers_as_text(aime, tmp_path):
    run("aime2024", aime, tmp_path)
    assert [row["reward_model"]["ground_truth"] for row in rows_of(tmp_path)] == [f"{n:03d}" for n in range(30)]


def test_gpqa_shuffles_the_options_and_the_letter_follows(gpqa, tmp_path):
    run("gpqa-main", gpqa, tmp_path / "a")
    letters = Counter()
    for n, row in enumerate(rows_of(tmp_path / "a")):
        message, letter = row["prompt"][0]["content"], row["reward_model"]["ground_truth"]
        assert message.startswith(f'Made up, number {n}:\nwhich "option"\n is right?\n\nA. ')
        assert f"\n{letter}. right {n}\n" in message
        assert message.endswith("\n\nAnswer with the letter of the correct option.")
        assert row["extra_info"]["n_options"] == 4
        assert row["extra_info"]["question"] == f'Made up, number {n}:\nwhich "option"\n is right?'
        letters[letter] += 1
    assert len(letters) >= 3  # of twelve questions; one place for all would be a giveaway
    run("gpqa-main", gpqa, tmp_path / "b", seed=1)
    assert rows_of(tmp_path / "a") != rows_of(tmp_path / "b")
    assert run("gpqa-diamond", gpqa, tmp_path / "c")["counts"]["selected"] == 5


def test_mmlu_pro_takes_some_at_random_and_reads_the_test_split_alone(mmlu, tmp_path):
    manifest = run("mmlu-pro", mmlu, tmp_path, count=7)
    rows = rows_of(tmp_path)
    assert manifest["counts"]["rows_read"] == 30
    assert len(rows) == 7
    indices = [row["extra_info"]["index"] for row in rows]
    assert indices == sorted(indices) != list(range(7))
    for row in rows:
        n, letter = row["extra_info"]["index"], row["reward_model"]["ground_truth"]
        assert f"\n{letter}. {n}" in row["prompt"][0]["content"]
        assert row["extra_info"]["id"] == str(70 + n)


def test_braces_of_a_question_stay(math500, tmp_path):
    run("math500", math500, tmp_path)
    assert rows_of(tmp_path)[1]["prompt"][0]["content"] == "Compute $\\frac{1}{2}$."
    asked = user_message(Problem("Is {options} \\frac{1}{2}?", ("{question}", "no"), "A", "", "", 0))
    assert asked.startswith("Is {options} \\frac{1}{2}?\n\nA. {question}\nB. no\n\nAnswer with the letter")


def test_openthoughts_samples_questions_and_not_rows(openthoughts, tmp_path):
    manifest = run("openthoughts3", openthoughts, tmp_path, count=10)
    rows = rows_of(tmp_path, "train.parquet")
    assert len({row["prompt"][0]["content"] for row in rows}) == len(rows) == 10
    assert [row["extra_info"]["index"] for row in rows] == list(range(10))
    assert manifest["counts"]["rows_read"] == 640
    assert manifest["counts"]["distinct_questions"] == 40
    for row in rows:
        assert row["prompt"][0] == {"role": "user", "content": row["prompt"][0]["content"].strip()}
        assert row["reward_model"] == {"style": "none", "ground_truth": ""}
        assert row["ability"] == row["extra_info"]["category"] in ("math", "code", "science")


def test_the_sample_is_uniform_over_questions(openthoughts, tmp_path):
    # 40 seeds x 10 of 40 questions: each expected 10 times, standard deviation sqrt(40 * 1/4 * 3/4) = 2.7.
    seen = Counter()
    rows = openthoughts_rows(responses=1)
    source = write_openthoughts(tmp_path / "once", rows, shards=1)
    for seed in range(40):
        run("openthoughts3", source, tmp_path / "out", count=10, seed=seed, overwrite=True)
        seen.update(questions_of(tmp_path / "out"))
    assert sum(seen.values()) == 400
    assert len(seen) == 40
    assert max(abs(count - 10) for count in seen.values()) <= 11  # four deviations


def test_the_sample_does_not_depend_on_the_order_or_the_repetition_of_rows(openthoughts, tmp_path):
    run("openthoughts3", openthoughts, tmp_path / "a", count=10)
    other = write_openthoughts(tmp_path / "other", openthoughts_rows(responses=2)[::-1], shards=5)
    run("openthoughts3", other, tmp_path / "b", count=10)
    assert (tmp_path / "a" / "train.parquet").read_bytes() == (tmp_path / "b" / "train.parquet").read_bytes()


def test_a_small_sample_begins_a_large_one(openthoughts, tmp_path):
    run("openthoughts3", openthoughts, tmp_path / "a", count=5)
    run("openthoughts3", openthoughts, tmp_path / "b", count=30)
    assert questions_of(tmp_path / "a") == questions_of(tmp_path / "b")[:5]


def test_domains_are_kept_or_filtered(openthoughts, tmp_path):
    every = run("openthoughts3", openthoughts, tmp_path / "a", count=40)
    assert every["counts"]["by_category"] == {"code": 10, "math": 20, "science": 10}
    some = run("openthoughts3", openthoughts, tmp_path / "b", count=30, domains=("science", "math"))
    assert some["counts"]["by_category"] == {"math": 20, "science": 10}


def test_responses_for_seqkd(openthoughts, tmp_path):
    manifest = run("openthoughts3", openthoughts, tmp_path / "a", count=6, responses_per_question=3)
    rows = rows_of(tmp_path / "a", "sft.parquet")
    assert manifest["files"]["sft.parquet"]["rows"] == len(rows) == 18
    asked = Counter(row["messages"][0]["content"] for row in rows)
    assert asked == dict.fromkeys(questions_of(tmp_path / "a"), 3)
    for row in rows:
        question, response = row["messages"]
        assert (question["role"], response["role"]) == ("user", "assistant")
        number = int(question["content"].split()[1].rstrip(":"))
        assert response["content"].endswith(f"\\boxed{{{2 * number}}}")
    assert len({json.dumps(row) for row in rows}) == 18
    # The same responses, whatever the order of the source.
    other = write_openthoughts(tmp_path / "other", openthoughts_rows()[::-1], shards=2)
    run("openthoughts3", other, tmp_path / "b", count=6, responses_per_question=3)
    assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, rows_of(tmp_path / "b", "sft.parquet")))


def test_responses_without_thinking_are_the_answers(tmp_path):
    rows = openthoughts_rows(questions=4, responses=2)
    rows[0]["conversations"][1]["value"] = "<think>\nnever ends"
    source = write_openthoughts(tmp_path / "in", rows)
    run("openthoughts3", source, tmp_path / "out", count=4, responses_per_question=2, thinking="off")
    taught = [row["messages"][1]["content"] for row in rows_of(tmp_path / "out", "sft.parquet")]
    assert sorted(taught) == sorted([f"\\boxed{{{2 * q}}}" for q in range(4)] * 2)[1:]


def test_the_responses_of_verls_sft_trainer_are_read_by_it(openthoughts, tmp_path):
    datasets = pytest.importorskip("datasets")
    run("openthoughts3", openthoughts, tmp_path, count=4, responses_per_question=16)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "sft.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded["train"]) == 64
    assert [m["role"] for m in loaded["train"][0]["messages"]] == ["user", "assistant"]


def test_validation_files_of_different_sets_concatenate_as_verl_does_it(math500, mmlu, gpqa, tmp_path):
    datasets = pytest.importorskip("datasets")
    run("math500", math500, tmp_path / "a")
    run("mmlu-pro", mmlu, tmp_path / "b", count=5)
    run("gpqa-diamond", gpqa, tmp_path / "c")
    parts = [
        datasets.load_dataset(
            "parquet", data_files=str(tmp_path / part / "test.parquet"), cache_dir=str(tmp_path / "cache")
        )["train"]
        for part in "abc"
    ]
    assert len(datasets.concatenate_datasets(parts)) == 30


def test_the_same_settings_give_the_same_bytes(openthoughts, gpqa, tmp_path):
    for name, source, settings in (
        ("openthoughts3", openthoughts, {"count": 12, "responses_per_question": 4}),
        ("gpqa-main", gpqa, {}),
    ):
        folders = [tmp_path / name / part for part in ("a", "b")]
        for folder in folders:
            run(name, source, folder, seed=5, **settings)
        run(name, source, folders[0], seed=5, **settings)  # again, over itself
        first, second = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders)
        assert first == second
        run(name, source, tmp_path / name / "c", seed=6, **settings)
        assert first != {file.name: file.read_bytes() for file in (tmp_path / name / "c").iterdir()}


def test_the_manifest_says_what_lies_beside_it(openthoughts, tmp_path):
    manifest = run(
        "openthoughts3", openthoughts, tmp_path / "out", count=3, responses_per_question=2, domains=("math",)
    )
    folder = tmp_path / "out"
    assert json.loads((folder / "manifest.json").read_text()) == json.loads(json.dumps(manifest))
    assert set(manifest["files"]) == {"train.parquet", "sft.parquet"}
    assert {file.name for file in folder.iterdir()} == {"train.parquet", "sft.parquet", "manifest.json"}
    for name, record in manifest["files"].items():
        assert record["sha256"] == sha256_of(folder / name)
        assert record["bytes"] == (folder / name).stat().st_size
        assert record["rows"] == len(rows_of(folder, name))
    assert manifest["seed"] == 0
    assert manifest["settings"]["domains"] == ["math"]
    assert [file["name"] for file in manifest["source"]["files"]] == [
        f"data/train-0000{shard}-of-00003.parquet" for shard in range(3)
    ]
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


def test_a_crash_leaves_the_earlier_files_whole(openthoughts, tmp_path, monkeypatch):
    run("openthoughts3", openthoughts, tmp_path, count=3)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("prefix_opd.data.preparation._write_responses", fail)
    with pytest.raises(KeyboardInterrupt):
        run("openthoughts3", openthoughts, tmp_path, count=9, responses_per_question=1, overwrite=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_overwriting_leaves_no_file_of_the_earlier_preparation(openthoughts, tmp_path):
    run("openthoughts3", openthoughts, tmp_path, count=3, responses_per_question=1)
    run("openthoughts3", openthoughts, tmp_path, count=3, overwrite=True)
    assert {file.name for file in tmp_path.iterdir()} == {"train.parquet", "manifest.json"}


def test_one_file_can_be_named(math500, tmp_path):
    shutil.copy(math500 / "test.jsonl", tmp_path / "mine.jsonl")
    assert run("math500", tmp_path / "mine.jsonl", tmp_path / "out")["counts"]["selected"] == 20


@pytest.mark.parametrize(("name", "count"), [("math500", 500), ("aime2024", 30)])
def test_real_problems(name, count, tmp_path):
    if not SHARED.is_dir():
        pytest.skip("real problems are not part of the repository: ../shared/data is absent")
    assert run(name, SHARED, tmp_path)["counts"]["selected"] == count


@pytest.mark.parametrize("form", ["byte order mark", "array", "array with a mark", "array in .jsonl"])
def test_json_in_other_forms_gives_the_same_rows(form, math500, tmp_path):
    run("math500", math500, tmp_path / "lines")
    text = (math500 / "test.jsonl").read_text()
    if form.startswith("array"):
        text = json.dumps([json.loads(line) for line in text.splitlines()], indent=1)
    source = tmp_path / ("test.json" if form.startswith("array") and "jsonl" not in form else "test.jsonl")
    source.write_text(("\ufeff" if "mark" in form else "") + text)
    run("math500", source, tmp_path / "other")
    assert rows_of(tmp_path / "other") == rows_of(tmp_path / "lines")


def test_conversations_of_role_and_content_give_the_same_questions(tmp_path):
    rows = openthoughts_rows(8, 2)
    write_openthoughts(tmp_path / "from", rows)
    other = [
        {
            "domain": row["domain"],
            "conversations": [
                {"role": {"human": "user", "gpt": "assistant"}[turn["from"]], "content": turn["value"]}
                for turn in row["conversations"]
            ],
        }
        for row in rows
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    run("openthoughts3", tmp_path / "from", tmp_path / "a", count=4, seed=1)
    run("openthoughts3", tmp_path / "train.jsonl", tmp_path / "b", count=4, seed=1)
    assert questions_of(tmp_path / "a") == questions_of(tmp_path / "b") and len(questions_of(tmp_path / "a")) == 4


def test_the_command_prints_the_manifest(math500, tmp_path, monkeypatch, capsys):
    words = ["prefix-opd", "prepare", "math500", "--from", str(math500), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert not leaving.value.code and capsys.readouterr().out == (tmp_path / "manifest.json").read_text()

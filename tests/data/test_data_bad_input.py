"""Bad input: one line that names it, before anything is written."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_copies import gpqa_rows, mmlu_rows, openthoughts_rows, write_math500, write_mmlu, write_openthoughts

from prefix_opd.base.errors import UserError
from prefix_opd.data import PrepareSettings, prepare


def refused(match, name, source, out, **settings):
    """Check that the preparation fails with this line and writes nothing."""
    with pytest.raises(UserError, match=match) as caught:
        prepare(PrepareSettings(name, out=out, from_dir=source, **settings))
    assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (
            {"dataset": "gpqa"},
            r"'gpqa': is not known; the known ones, nearest first: gpqa-main, gpqa-diamond, ",
        ),
        ({"dataset": "aime24"}, r"nearest first: aime2024, "),
        ({"dataset": "math500", "count": 0}, r"count=0: must be a whole number of at least 1"),
        ({"dataset": "openthoughts3", "count": -3}, r"count=-3: must be"),
        ({"dataset": "openthoughts3", "domains": ("maths",)}, r"domain 'maths': .* choose from math, code, science"),
        ({"dataset": "math500", "domains": ("math",)}, r"domains=.*math500 has none; leave it out"),
        ({"dataset": "math500", "responses_per_question": 4}, r"responses_per_question=4: math500 has none"),
        ({"dataset": "openthoughts3", "responses_per_question": -1}, r"must be a whole number of at least 0"),
        ({"dataset": "math500", "max_prompt_tokens": 100}, r"max_prompt_tokens: is given alone"),
        ({"dataset": "math500", "tokenizer": "somewhere"}, r"tokenizer: is given alone"),
        ({"dataset": "math500", "drop_long": True}, r"drop_long=True: needs a limit"),
    ],
)
def test_settings_are_checked_at_once(settings, match):
    with pytest.raises(UserError, match=match):
        PrepareSettings(**settings)


def test_names_are_folded():
    assert PrepareSettings("MMLU_Pro").known.name == "mmlu-pro"


@pytest.mark.parametrize("column", ["conversations", "domain"])
def test_a_missing_column_of_openthoughts_is_named(column, tmp_path):
    path = tmp_path / "in" / "train.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(openthoughts_rows(2, 1)).drop_columns([column]), path)
    refused(f"train.parquet, column '{column}': is missing; the file has ", "openthoughts3", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("column", ["Question", "Correct Answer", "Incorrect Answer 2"])
def test_a_missing_column_of_gpqa_is_named(column, tmp_path):
    (tmp_path / "gpqa_main.csv").write_text(",".join(name for name in gpqa_rows(1)[0] if name != column) + "\nx" * 2)
    refused(f"gpqa-main, row 0, column '{column}': is missing", "gpqa-main", tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"problem": "1+1?"}, r"math500, row 1, column 'answer': is missing; the row has 'problem'"),
        ({"problem": 3, "answer": "2"}, r"row 1, column 'problem': must be text, not int"),
        ({"problem": None, "answer": "2"}, r"row 1, column 'problem': must be text, not NoneType"),
        ({"problem": "1+1?", "answer": 2.5}, r"row 1, column 'answer': must be text or a whole number, not float"),
        ({"problem": "1+1?", "answer": True}, r"row 1, column 'answer': must be text or a whole number, not bool"),
        ({"problem": "1+1?", "answer": "2", "subject": 7}, r"column 'subject': must be text, not int"),
        ({"problem": " ", "answer": "2"}, r"row 1: question, answer and options must not be empty"),
        ({"problem": "1+1?", "answer": ""}, r"row 1: question, answer and options must not be empty"),
    ],
)
def test_a_bad_row_of_mathematics_is_named(row, match, tmp_path):
    write_math500(tmp_path, [{"problem": "0+0?", "answer": 0}, row])
    refused(match, "math500", tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"options": ["1"]}, r"column 'options': must hold 2 to 10 options, not 1"),
        ({"options": [str(n) for n in range(11)]}, r"column 'options': must hold 2 to 10 options, not 11"),
        ({"answer": "Z"}, r"column 'answer': must be a letter from A to "),
        ({"answer_index": 9}, r"column 'answer_index': must agree with answer C, not be 9"),
    ],
)
def test_a_bad_row_of_mmlu_pro_is_named(change, match, tmp_path):
    rows = mmlu_rows(3)
    rows[1] |= change
    write_mmlu(tmp_path / "in", rows)
    refused(match, "mmlu-pro", tmp_path / "in", tmp_path / "out", count=1)


def test_a_column_of_the_wrong_type_in_parquet_is_named(tmp_path):
    rows = [row | {"options": "A, B"} for row in mmlu_rows(2)]
    write_mmlu(tmp_path / "in", rows)
    refused("column 'options': must be a list of text, not str", "mmlu-pro", tmp_path / "in", tmp_path / "out", count=1)


def test_conversations_of_another_layout_are_named(tmp_path):
    row = {"domain": "math", "conversations": [{"speaker": "user", "text": "1+1?"}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    match = r"column 'conversations': must be a list of \{from, value\} or \{role, content\}, both text"
    refused(match, "openthoughts3", tmp_path, tmp_path / "out")


def test_files_that_cannot_be_read_are_named(tmp_path):
    bad = tmp_path / "in"
    bad.mkdir()
    for name, text, match in (
        ("test.jsonl", '{"problem": "x", "answer": "1"}\n{"problem": ', r"test.jsonl, line 2: is not JSON"),
        ("test.jsonl", "[1]", r"test.jsonl, entry 0: must be one JSON object"),
        ("test.jsonl", "1", r"test.jsonl, line 1: must be one JSON object"),
        ("test.jsonl", "version https://git-lfs.github.com/spec/v1\noid 1", r"is a git-lfs pointer.*git lfs pull"),
    ):
        (bad / name).write_text(text)
        refused(match, "math500", bad, tmp_path / "out")
    (bad / "test.jsonl").rename(bad / "test.parquet")
    (bad / "test.parquet").write_text("no parquet")
    refused("test.parquet: cannot be read as parquet", "math500", bad, tmp_path / "out")
    pq.write_table(pa.table([["x"], ["1"], ["y"]], ["problem", "answer", "problem"]), bad / "test.parquet")
    refused("test.parquet, column 'problem': occurs more than once; rename", "math500", bad, tmp_path / "out")
    (bad / "test.parquet").unlink()
    (bad / "test.csv").write_text("problem,answer,answer\n1+1,2,3\n")
    refused("test.csv, column 'answer': occurs more than once", "math500", bad, tmp_path / "out")


def test_a_place_without_the_files_says_what_it_looked_for(tmp_path, gpqa):
    refused("nowhere: does not exist", "math500", tmp_path / "nowhere", tmp_path / "out")
    match = r"holds no file of math500 \(test\* or math500\* or math-500\*, .*\); name the file itself with --from FILE"
    refused(match, "math500", gpqa, tmp_path / "out")
    both = write_math500(tmp_path / "both")
    (both / "test.csv").write_text("problem,answer\n1,1\n")
    refused("holds math500 in several formats", "math500", both, tmp_path / "out")
    (tmp_path / "notes.txt").write_text("")
    refused(r"must be a folder or a file ending in .parquet", "math500", tmp_path / "notes.txt", tmp_path / "out")


def test_nothing_or_too_little_to_select(tmp_path):
    rows = [row for row in openthoughts_rows(8, 2) if row["domain"] != "code"]
    source = write_openthoughts(tmp_path / "in", rows)
    out = tmp_path / "out"
    refused("nothing is selected in the domains code: 12 rows read", "openthoughts3", source, out, domains=("code",))
    refused("count=7: openthoughts3 gives 6 here; use --count 6 or fewer", "openthoughts3", source, out, count=7)
    refused("count=30700: openthoughts3 gives 6 here", "openthoughts3", source, out)


def test_rows_without_a_question_are_skipped_and_counted(tmp_path):
    rows = [*openthoughts_rows(4, 1), {"domain": "math", "conversations": [{"from": "gpt", "value": "hello"}]}]
    source = write_openthoughts(tmp_path / "in", rows)
    settings = PrepareSettings("openthoughts3", out=tmp_path / "out", from_dir=source, count=4)
    assert prepare(settings)["counts"]["rows_without_question"] == 1


def test_a_folder_with_another_preparation_is_kept(math500, aime, tmp_path):
    def run(name, source, **settings):
        return prepare(PrepareSettings(name, out=tmp_path / "out", from_dir=source, **settings))

    run("math500", math500)
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    other_way = "choose another folder with --out, or replace it with --overwrite"
    with pytest.raises(UserError, match=rf"holds another preparation \(seed=0, asked for 1\); {other_way}"):
        run("math500", math500, seed=1)
    with pytest.raises(UserError, match=r"\(dataset='math500', asked for 'aime2024'\)"):
        run("aime2024", aime)
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert run("math500", math500)["files"]["test.parquet"]["rows"] == 20
    assert run("aime2024", aime, overwrite=True)["files"]["test.parquet"]["rows"] == 30
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"holds test.parquet without a manifest.json"):
        run("aime2024", aime)
    (tmp_path / "out" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest.json: is not a manifest of this program"):
        run("aime2024", aime)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: is a file; name a folder"):
        prepare(PrepareSettings("math500", out=tmp_path / "file", from_dir=math500))

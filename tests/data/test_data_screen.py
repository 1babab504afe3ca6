"""Length in tokens, and what an evaluation set also holds."""

import json
import shutil

import pytest
from data_copies import openthoughts_rows, write_math500, write_openthoughts

from prefix_opd.base.errors import UserError
from prefix_opd.data import PrepareSettings, prepare
from prefix_opd.data.overlap import EvaluationQuestions, Match, runs_of, words_of
from prefix_opd.data.screen import TokenCounter
from prefix_opd.miniature import shipped_models

LONG = "a b c d e f g h i j k l m n o"  # 15 words: 3 runs of 13


def asked(text):
    return {"domain": "math", "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "x"}]}


def test_words_leave_typesetting_out():
    assert words_of(r"Find $\dfrac{1}{2}$ of  X_1!") == words_of(r"find \(\frac 1 2\) of x 1") != words_of("find 1/2")


def test_runs():
    assert len(runs_of(LONG.split())) == 3
    assert runs_of(["one"] * 12) == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LONG.upper() + "?", Match("s#0", True, 1.0)),
        ("z " + LONG + " z", Match("s#0", False, 1.0)),
        ("a b c d e f g h i j k l m n z", Match("s#0", False, 2 / 3)),  # a-m and b-n of three
        ("a b c d e f g h i j k l z m n o", None),
        ("short one", Match("s#1", True, 1.0)),
        ("a short one", None),  # too short for runs: equality alone
    ],
)
def test_match(text, expected):
    assert EvaluationQuestions([("s#0", LONG), ("s#1", "Short one.")]).match(text) == expected


def copies(tmp_path):
    """Two evaluation questions, and training questions: one equal, one similar, one with a shared phrase."""
    problems = [{"problem": LONG, "answer": "1"}, {"problem": "what is 3 plus 3?", "answer": "6"}]
    run("math500", write_math500(tmp_path / "math", problems), tmp_path / "eval")
    rows = openthoughts_rows(5, 2) + [
        asked("What is $3$ plus $3$"),
        asked(f"Tell me: {LONG} and why"),
        asked("a b c d e f g h i j k l m and so on"),
    ]
    return write_openthoughts(tmp_path / "train", rows), (tmp_path / "eval" / "test.parquet",)


def run(name, source, out, **settings):
    return prepare(PrepareSettings(name, out=out, from_dir=source, **settings))


def texts(manifest, folder):
    import pyarrow.parquet as pq

    return {row["prompt"][0]["content"] for row in pq.read_table(folder / "train.parquet").to_pylist()}


def test_duplicates_are_dropped_and_reported(tmp_path):
    source, evaluation = copies(tmp_path)
    manifest = run("openthoughts3", source, tmp_path / "out", count=6, decontaminate_against=evaluation)
    left_out, kept = manifest["counts"]["left_out"], manifest["counts"]["kept"]
    assert left_out["matches"] == [
        {"with": "math500#1", "equal": True, "share": 1.0},
        {"with": "math500#0", "equal": False, "share": 1.0},
    ]
    assert (left_out["problems"], left_out["equal_to_evaluation"], left_out["duplicates_of_evaluation"]) == (2, 1, 2)
    assert kept["matches"] == [{"with": "math500#0", "equal": False, "share": round(1 / 3, 4)}]
    assert kept["duplicates_of_evaluation"] == 0
    found = texts(manifest, tmp_path / "out")
    assert len(found) == 6
    assert "a b c d e f g h i j k l m and so on" in found
    assert not any(LONG in text for text in found)
    # The report names evaluation questions and never quotes them.
    assert "a b c d" not in json.dumps(manifest["counts"])


def test_duplicates_can_be_reported_alone(tmp_path):
    source, evaluation = copies(tmp_path)
    settings = {"count": 8, "decontaminate_against": evaluation, "drop_duplicates": False}
    manifest = run("openthoughts3", source, tmp_path / "out", **settings)
    assert manifest["counts"]["kept"]["duplicates_of_evaluation"] == 2
    assert manifest["counts"]["left_out"]["problems"] == 0


def test_others_take_the_place_of_what_was_dropped_whatever_the_order(tmp_path):
    source, evaluation = copies(tmp_path)
    plain = run("openthoughts3", source, tmp_path / "plain", count=4)
    assert plain["counts"]["left_out"]["problems"] == 0
    reversed_rows = openthoughts_rows(5, 2)[::-1]
    reversed_rows[3:3] = [asked(f"Tell me: {LONG} and why"), asked("What is $3$ plus $3$")]
    other = write_openthoughts(tmp_path / "other", [*reversed_rows, asked("a b c d e f g h i j k l m and so on")], 2)
    first = run("openthoughts3", source, tmp_path / "a", count=4, decontaminate_against=evaluation)
    second = run("openthoughts3", other, tmp_path / "b", count=4, decontaminate_against=evaluation)
    assert first["counts"]["left_out"] == second["counts"]["left_out"]
    assert texts(first, tmp_path / "a") == texts(second, tmp_path / "b")


def test_the_bare_question_of_a_choice_prompt_is_compared(tmp_path, gpqa):
    run("gpqa-main", gpqa, tmp_path / "eval")
    rows = [*openthoughts_rows(3, 1), asked('Made up, number 4: which "option" is right?')]
    source = write_openthoughts(tmp_path / "in", rows)
    evaluation = (tmp_path / "eval" / "test.parquet",)
    manifest = run("openthoughts3", source, tmp_path / "out", count=3, decontaminate_against=evaluation)
    assert [match["with"] for match in manifest["counts"]["left_out"]["matches"]] in ([], ["gpqa-main#4"])
    assert not any("Made up" in text for text in texts(manifest, tmp_path / "out"))


def test_a_file_that_is_no_evaluation_set_is_told(tmp_path, mmlu):
    source, _ = copies(tmp_path)
    for path, match in (
        (tmp_path / "none.parquet", "is not a file"),
        (mmlu / "data" / "test-00000-of-00001.parquet", "is not a parquet in verl's RL layout"),
    ):
        with pytest.raises(UserError, match=match):
            run("openthoughts3", source, tmp_path / "out", count=1, decontaminate_against=(path,))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A tokenizer with one token per word, whose chat template adds two tokens."""
    pytest.importorskip("transformers", reason="counting tokens needs transformers, which is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path_factory.mktemp("tokenizer")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    wrapped.chat_template = "{% for m in messages %}<{{ m.role }}> {{ m.content }}{% endfor %} <assistant>"
    wrapped.save_pretrained(folder)
    return str(folder)


def test_long_prompts_are_counted_or_dropped(tokenizer, tmp_path):
    rows = [asked(" ".join(["w"] * length)) for length in range(1, 11)]
    source = write_openthoughts(tmp_path / "in", rows)
    limit = {"tokenizer": tokenizer, "max_prompt_tokens": 8}
    counted = run("openthoughts3", source, tmp_path / "a", count=10, **limit)
    # lengths 1 to 10 and two of the template: 7, 8, 9 and 10 words are beyond 8 tokens
    assert (counted["counts"]["kept"]["long_prompts"], counted["counts"]["kept"]["longest_prompt_tokens"]) == (4, 12)
    dropped = run("openthoughts3", source, tmp_path / "b", count=6, drop_long=True, **limit)
    assert (dropped["counts"]["kept"]["long_prompts"], dropped["counts"]["kept"]["longest_prompt_tokens"]) == (0, 8)
    with pytest.raises(UserError, match="count=7: openthoughts3 gives 6 here"):
        run("openthoughts3", source, tmp_path / "c", count=7, drop_long=True, **limit)


def test_a_prompt_is_counted_with_its_forced_ending():
    forced, off = (TokenCounter(str(shipped_models()["student"]), mode) for mode in ("forced", "off"))
    assert forced.count("1+1") == off.count("1+1") + 1


def test_a_tokenizer_that_cannot_be_loaded_is_told(tmp_path, math500):
    pytest.importorskip("transformers", reason="counting tokens needs transformers, which is not installed")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"tokenizer=.*empty: cannot be loaded .*tokenizer.json"):
        run("math500", math500, tmp_path / "out", tokenizer=str(tmp_path / "empty"), max_prompt_tokens=5)


def test_the_default_of_named_templates_counts_and_one_that_fails_is_told(tmp_path):
    folder = shutil.copytree(shipped_models()["student"], tmp_path / "student")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    named = [{"name": "default", "template": template}, {"name": "tool_use", "template": "x"}]
    path.write_text(json.dumps({**settings, "chat_template": named}))
    assert TokenCounter(str(folder)).count("1+1") == TokenCounter(str(shipped_models()["student"])).count("1+1")
    for broken in ({"chat_template": "{{ raise_exception('no') }}"}, {"tokenizer_class": 3}):
        path.write_text(json.dumps({**settings, **broken}))
        with pytest.raises(UserError, match=r"tokenizer=.*student: cannot be loaded \("):
            TokenCounter(str(folder))

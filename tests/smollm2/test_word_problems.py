"""Word problems: right answers, held-out stories, seeds, grading."""

import random
import re
from fractions import Fraction

import pyarrow.parquet as pq
import pytest

from prefix_opd.grading import compute_score
from prefix_opd.smollm2.__main__ import main
from prefix_opd.smollm2.problems import INSTRUCTION, MOST, SOURCE, draw, random_problem, stories

SPLITS = ("train", "test")
SLOTS = {"a": r"(?P<a>\d+)", "b": r"(?P<b>\d+)", "n": r"(?P<n>\d+)"}
EXPRESSION = {"start": "n", "+a": "({})+a", "-a": "({})-a", "+ab": "({})+a*b", "-ab": "({})-a*b"}
EXPRESSION |= {"*a": "({})*a", "/a": "({})/a", "ask": "{}"}


def pattern(template: str) -> re.Pattern:
    """A template with its slots as groups; a slot for a word takes any word."""
    parts = re.split(r"\{(\w+)\}", template)
    made = [re.escape(part) if i % 2 == 0 else SLOTS.get(part, "[A-Za-z]+") for i, part in enumerate(parts)]
    return re.compile("".join(made), re.IGNORECASE)


def sentences(split: str) -> list[tuple[str, str, re.Pattern]]:
    found = []
    for story in stories(split):
        lines = [("start", one) for one in story.starts] + list(story.events) + [("ask", one) for one in story.asks]
        found += [(kind, template, pattern(template)) for kind, template in lines]
    return found


def read(question: str, split: str) -> tuple[Fraction, list[str]]:
    """The result of a question that is read anew, sentence by sentence, and the kinds of its sentences."""
    expression, kinds, rest = "", [], question
    while rest:
        fits = [(kind, m) for kind, _, one in sentences(split) if (m := one.match(rest))]
        assert len({m.end() for _, m in fits}) == 1 and len({kind for kind, _ in fits}) == 1, (rest, fits)
        kind, match = fits[0]
        step = EXPRESSION[kind]
        for name, value in match.groupdict().items():
            step = step.replace(name, f"F({value})")
        expression = step.format(expression)
        kinds.append(kind)
        rest = rest[match.end() :].strip()
    return eval(expression, {"F": Fraction}), kinds


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_right(split):
    for problem in draw(200, split, seed=3):
        result, kinds = read(problem.question, split)
        assert str(result) == problem.answer and 1 <= result <= MOST, problem
        assert kinds[0] == "start" and kinds[-1] == "ask" and 4 <= len(kinds) <= 5
        first, *worked, last = problem.solution.splitlines()
        assert len(worked) == len(kinds) - 2 and last == f"The answer is {problem.answer}."
        total = re.search(r"\d+", first)[0]
        for line in worked:  # each goes on from the total before it
            equations = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)\.", line)
            for left, sign, right, said in equations:
                assert eval(f"Fraction({left}) {sign} Fraction({right})") == int(said)
            assert equations[-1][0] == total
            total = equations[-1][-1]
        assert total == problem.answer


def test_test_stories_share_no_sentence_with_training():
    train, test = ({template for _, template, _ in sentences(split)} for split in SPLITS)
    assert len(train) == sum(len(s.starts + s.events + s.asks) for s in stories("train"))  # no line twice
    assert not train & test
    shapes = {re.sub(r"\{\w+\}", "_", template).lower() for template in train}
    assert not [one for one in test if re.sub(r"\{\w+\}", "_", one).lower() in shapes]
    for problem in draw(50, "test", 1):
        assert not any(one.match(problem.question) for _, _, one in sentences("train"))


def test_every_template_is_drawn():
    for split in SPLITS:
        questions = "\n".join(problem.question for problem in draw(2000, split, 0))
        assert not [template for _, template, one in sentences(split) if not one.search(questions)]


def test_data_of_a_seed(tmp_path):
    for name, count, seed in (("a", 40, 0), ("b", 40, 0), ("c", 40, 1), ("d", 80, 0)):
        asked = {"--out": str(tmp_path / name), "--train": str(count), "--test": "20", "--seed": str(seed)}
        assert main(["data", *sum(asked.items(), ())]) == 0
    for split in SPLITS:
        first, same, other = ((tmp_path / name / f"{split}.parquet").read_bytes() for name in "abc")
        assert first == same != other
    small, large = (pq.read_table(tmp_path / name / "train.parquet").to_pylist() for name in "ad")
    assert large[:40] == small and len({row["prompt"][0]["content"] for row in large}) == 80
    assert (tmp_path / "a/test.parquet").read_bytes() == (tmp_path / "d/test.parquet").read_bytes()
    row = small[3]
    assert row["data_source"] == SOURCE and row["extra_info"] == {"split": "train", "index": 3}
    question, _, asked = row["prompt"][0]["content"].partition("\n")
    assert asked == INSTRUCTION and str(read(question, "train")[0]) == row["reward_model"]["ground_truth"]


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("{solution}", 1.0),
        ("{solution}<|im_end|>", 1.0),
        ("First I add the numbers.\n\nThe answer is **{answer}** apples.", 1.0),
        ("12 + 18 = 30, so \\boxed{{{answer}}}", 1.0),
        ("The answer is {answer}1.", 0.0),
        ("{cut}", 0.0),
        ("", 0.0),
    ],
)
def test_grading(answer, score):
    problem = random_problem(random.Random(5), "test")
    cut = problem.solution.rsplit("\n", 2)[0]  # without its last event
    text = answer.format(solution=problem.solution, answer=problem.answer, cut=cut)
    assert compute_score(SOURCE, text, problem.answer, prompt_ending=None)["score"] == score

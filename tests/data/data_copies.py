"""Small copies of the public data sets in the hub's layouts. Every question is invented."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TURNS = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
OPENTHOUGHTS = pa.schema(
    [("difficulty", pa.int64()), ("source", pa.string()), ("domain", pa.string()), ("conversations", TURNS)]
)
GPQA_COLUMNS = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def openthoughts_rows(questions=40, responses=16):
    """Many rows per question, spread over the set: half maths, a quarter code, a quarter science."""
    domains = ("math", "code", "math", "science")
    return [
        {
            "difficulty": 7,
            "source": "made up",
            "domain": domains[q % 4],
            "conversations": [
                {"from": "human", "value": f"Question {q}: what is {q} plus {q}?\n"},
                {"from": "gpt", "value": f"<think>\nattempt {r}\n</think>\n\n\\boxed{{{2 * q}}}"},
            ],
        }
        for r in range(responses)
        for q in range(questions)
    ]


def write_openthoughts(folder: Path, rows=None, shards=3) -> Path:
    rows = openthoughts_rows() if rows is None else rows
    (folder / "data").mkdir(parents=True)
    for shard in range(shards):
        table = pa.Table.from_pylist(rows[shard::shards], schema=OPENTHOUGHTS)
        pq.write_table(table, folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet", row_group_size=50)
    return folder


def write_math500(folder: Path, rows=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows or [
        {
            "problem": f"Compute $\\frac{{{n}}}{{2}}$.",
            "solution": "by hand",
            "answer": f"\\frac{{{n}}}{{2}}",
            "subject": "Algebra" if n % 2 else "Geometry",
            "level": 1,
            "unique_id": f"test/{n}.json",
        }
        for n in range(20)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def gpqa_rows(count=12):
    return [
        {
            "Record ID": f"rec{n}",
            "High-level domain": "Physics",
            "Question": f'Made up, number {n}:\nwhich "option"\n is right?',
            "Correct Answer": f"right {n}\n",
            "Incorrect Answer 1": f"wrong {n}, a",
            "Incorrect Answer 2": f"wrong {n}, b",
            "Incorrect Answer 3": "None" if n == 3 else f"wrong {n}, c",
            "Writer's Difficulty Estimate": "Hard",
        }
        for n in range(count)
    ]


def write_gpqa(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for part, rows in (("main", gpqa_rows(12)), ("diamond", gpqa_rows(5)), ("extended", gpqa_rows(14))):
        with open(folder / f"gpqa_{part}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def mmlu_rows(count=30):
    return [
        {
            "question_id": 70 + n,
            "question": f"Which number is {n}?",
            "options": [str(n + shift) for shift in range(-(n % 8) - 1, 2)],
            "answer": "ABCDEFGHIJ"[n % 8 + 1],
            "answer_index": n % 8 + 1,
            "cot_content": "",
            "category": "math",
            "src": "made up",
        }
        for n in range(count)
    ]


def write_mmlu(folder: Path, rows=None) -> Path:
    (folder / "data").mkdir(parents=True)
    rows = rows or mmlu_rows()
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "test-00000-of-00001.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:2]), folder / "data" / "validation-00000-of-00001.parquet")
    return folder


def write_aime(folder: Path, rows=None) -> Path:
    (folder / "data").mkdir(parents=True)
    rows = rows or [
        {
            "id": 60 + n,
            "problem": f"Find $m+n$ for {n}.",
            "solution": "",
            "answer": f"{n:03d}",
            "url": "",
            "year": "2024",
        }
        for n in range(30)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    return folder

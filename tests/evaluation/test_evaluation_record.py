"""What is done, what is left, and whose folder it is."""

import pyarrow.parquet as pq
import pytest

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import write_json
from prefix_opd.evaluation import record
from prefix_opd.evaluation.record import Chunk


def rows(chunk, drop=0):
    found = [
        {
            "benchmark": chunk.benchmark,
            "problem": problem,
            "problem_id": f"id{problem}",
            "sample": sample,
            "prompt": "1+1=",
            "response": "2",
            "score": 1.0,
            "pred": "2",
            "graded_by": "math",
            "reason": "equal",
            "response_length": 1,
            "natural_end": True,
            "cut": False,
        }
        for sample in range(chunk.samples)
        for problem in chunk.problems
    ]
    return found[: len(found) - drop]


def plan(model="aa", k=2, benchmark="math500"):
    return {"same": {"model": model, "seed": 0}, "benchmarks": {benchmark: {"problems": 5, "same": {"k": k}}}}


def test_chunks_of_what_is_left():
    assert [chunk.problems for chunk in record.chunks(7, set(), "b", 2, 3)] == [(0, 1, 2), (3, 4, 5), (6,)]
    # problems 0, 1 and 4 are done: the others in order, whatever the size was before
    assert [chunk.problems for chunk in record.chunks(7, {0, 1, 4}, "b", 2, 2)] == [(2, 3), (5, 6)]
    assert record.chunks(2, {0, 1}, "b", 2, 2) == []


def test_parts_say_what_is_done(tmp_path):
    for chunk in (Chunk("b", (0, 1), 2), Chunk("b", (4,), 2), Chunk("b-c", (0,), 2)):
        record.write_part(tmp_path, chunk, rows(chunk))
    assert record.done(tmp_path, "b", 2) == {0, 1, 4}
    assert record.done(tmp_path, "b-c", 2) == {0}, "a name that begins alike is another benchmark"
    assert record.done(tmp_path, "other", 2) == set()
    read = record.read_columns(tmp_path, "b")
    assert [(row["problem"], row["sample"]) for row in read] == [(p, s) for p in (0, 1, 4) for s in (0, 1)]
    table = pq.read_table(record.write_responses(tmp_path, ["b", "b-c"]))
    assert table.num_rows == 8 and table.schema == record.SCHEMA


def test_a_part_of_an_earlier_version_has_no_reasons(tmp_path):
    for chunk in (Chunk("b", (0, 1), 2), Chunk("b", (4,), 2)):
        record.write_part(tmp_path, chunk, rows(chunk))
    old = tmp_path / "parts" / "b-000000.parquet"
    pq.write_table(pq.read_table(old).drop_columns(["reason"]), old)
    assert [row["reason"] for row in record.read_columns(tmp_path, "b")] == [None] * 4 + ["equal"] * 2
    assert pq.read_table(record.write_responses(tmp_path, ["b"])).schema == record.SCHEMA


def test_a_chunk_with_a_lost_or_doubled_response_is_not_kept(tmp_path):
    chunk = Chunk("b", (0, 1), 2)
    with pytest.raises(RuntimeError, match="b: 3 responses came back of 4"):
        record.write_part(tmp_path, chunk, rows(chunk, drop=1))
    with pytest.raises(RuntimeError, match="5 responses came back of 4"):
        record.write_part(tmp_path, chunk, [*rows(chunk), rows(chunk)[0]])
    assert record.done(tmp_path, "b", 2) == set() and not (tmp_path / "parts").exists()


def test_parts_that_do_not_fit_are_refused(tmp_path):
    chunk = Chunk("b", (0, 1), 2)
    record.write_part(tmp_path, chunk, rows(chunk))
    with pytest.raises(UserError, match="short of 3 samples"):
        record.done(tmp_path, "b", 3)
    (tmp_path / "parts" / chunk.part).with_name("b-000009.parquet").write_bytes(
        (tmp_path / "parts" / chunk.part).read_bytes()
    )
    with pytest.raises(UserError, match="doubled"):
        record.done(tmp_path, "b", 2)
    (tmp_path / "parts" / chunk.part).write_text("torn")
    with pytest.raises(UserError, match="is damaged; remove it"):
        record.done(tmp_path, "b", 2)


def test_another_evaluation_is_refused_by_its_first_difference(tmp_path):
    assert record.check_same(tmp_path / "new", plan()) == plan()
    write_json(tmp_path / record.PLAN_FILE, plan())
    assert record.check_same(tmp_path, plan()) == plan()
    with pytest.raises(UserError, match=r"another evaluation \(model=aa there, bb here\); choose another .* --out"):
        record.check_same(tmp_path, plan(model="bb"))
    with pytest.raises(UserError, match=r"math500: k=2 there, 4 here"):
        record.check_same(tmp_path, plan(k=4))
    # another benchmark joins what is there
    assert list(record.check_same(tmp_path, plan(benchmark="aime2024"))["benchmarks"]) == ["math500", "aime2024"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("a: run")
    with pytest.raises(UserError, match="contains something else"):
        record.check_same(tmp_path, plan())


def test_one_evaluation_at_a_time(tmp_path):
    with record.hold(tmp_path), pytest.raises(UserError, match="another evaluation is writing to it"):
        record.hold(tmp_path)
    record.hold(tmp_path).close()

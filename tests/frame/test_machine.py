"""The commit of a measurement, and what stands in for it in a copy without git."""

import pytest

from harness import machine


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A folder outside git with two files of code."""
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.delenv(machine.GIVEN, raising=False)
    for name in ("prefix_opd/a.py", "benchmarks/b.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    return tmp_path


def test_outside_git_the_files_are_hashed(copy):
    found = machine.commit(("benchmarks",))
    assert found.startswith("files-") and found == machine.commit(("benchmarks",))
    (copy / "prefix_opd" / "__pycache__").mkdir()
    (copy / "prefix_opd" / "__pycache__" / "a.pyc").write_text("compiled")
    assert machine.commit(("benchmarks",)) == found
    (copy / "benchmarks" / "b.py").write_text("changed")
    assert machine.commit(("benchmarks",)) != found
    assert machine.commit(()) == machine.commit(()) != found


def test_outside_git_a_commit_can_be_given(copy, monkeypatch):
    monkeypatch.setenv(machine.GIVEN, "c0ffee")
    assert machine.commit(("benchmarks",)) == "c0ffee"

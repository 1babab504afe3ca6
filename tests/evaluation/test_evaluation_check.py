"""A command line without a mistake passes, and starts nothing; those with one are in test_bad_input.py."""

import pytest

from prefix_opd import cli
from prefix_opd.miniature import shipped_models

STUDENT = str(shipped_models()["student"])


def test_what_is_right_passes_and_starts_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prefix-opd", "evaluate", STUDENT, "tiny", "--limit", "5", "--k", "3", "--check"])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    told = capsys.readouterr()
    assert leaving.value.code == 0 and "5 problems, 15 responses, 0 problems are done" in told.err
    assert not list(tmp_path.iterdir())

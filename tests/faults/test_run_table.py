"""The page of the faults."""

from faults import run_table


def test_a_pipe_in_what_the_program_prints_stays(tmp_path, monkeypatch):
    page, begin = tmp_path / "faults.md", run_table.BEGIN.format("")
    page.write_text(f"before\n{begin}\nold\n{run_table.END}\nafter")
    monkeypatch.setattr(run_table, "PAGE", page)
    run_table.write_table([{"case": "a kill", "exit": 1, "told": "see `dmesg | tail`", "commit": "abc"}], begin)
    # an unescaped pipe would begin another cell
    assert "\n| a kill | 1 | see `dmesg \\| tail` |  |  |\n" in page.read_text()

"""The page of the faults."""

from faults import run_table


def test_a_pipe_in_what_the_program_prints_stays(tmp_path, monkeypatch):
    page, begin = tmp_path / "fault_tests.md", run_table.BEGIN.format("")
    page.write_text(f"before\n{begin}\nold\n{run_table.END}\nafter")
    monkeypatch.setattr(run_table, "PAGE", page)
    run_table.write_table([{"case": "a kill", "exit": 1, "told": "see `dmesg | tail`", "commit": "abc"}], begin)
    # an unescaped pipe would begin another cell
    assert "\n| a kill | 1 | see `dmesg \\| tail` |  |  |\n" in page.read_text()


def test_paths_of_the_machine_are_left_out(tmp_path, monkeypatch):
    page, begin = tmp_path / "fault_tests.md", run_table.BEGIN.format("")
    page.write_text(f"{begin}\n{run_table.END}")
    monkeypatch.setattr(run_table, "PAGE", page)
    told = "folder /home/me/outputs/faults/killed:_raylet/outputs/tiny_schedule"
    run_table.write_table([{"case": "a kill", "exit": 0, "told": told, "commit": "abc"}], begin)
    assert "| a kill | 0 | folder outputs/tiny_schedule |  |  |" in page.read_text()

"""A browser draws the report, of hostile runs too."""

import struct

import pytest
from browser import Browser, find_chromium
from written_runs import ACCURACY, update, write_run

from prefix_opd.report.page import write_report


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine; PREFIX_OPD_CHROMIUM may name one")
    with Browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(run, written, tmp_path_factory):
    """The page of one run and the page of two runs, with their numbers of plots."""
    lines = [{"step": 0, ACCURACY: 0.1}, update(1, 8e9, cap=192, **{ACCURACY: 0.9})]
    full = write_run(tmp_path_factory.mktemp("two") / "full", lines, **{"prefix_opd.schedule.name": "full"})
    # three by cost, then two of lengths and seconds, two of the signal and two of the prefixes; two of the other run
    return {"one": (written[0], 9), "two": (write_report([run, full], full.parent / "both.html")[0], 11)}


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", ["one", "two"])
def test_a_browser_draws_it(browser, pages, page, width, theme, tmp_path):
    path, plots = pages[page]
    browser.open(path, width, theme)
    drawn = browser.ask(
        "[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.scatterlayer .trace').length)"
    )
    assert len(drawn) == plots and all(drawn), drawn
    areas = browser.ask("[...document.querySelectorAll('.plot')].map(p => [p.id, p._fullLayout._size.h])")
    assert all(180 <= height <= 400 for _, height in areas), areas
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.title").startswith("</script>"), "the hostile name is a title, not a script"
    browser.photograph(tmp_path / "page.png")
    assert png_size(tmp_path / "page.png")[0] == width and (tmp_path / "page.png").stat().st_size > 50_000
    assert browser.errors == []


def png_size(path):
    """Width and height from the file's header."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return struct.unpack(">II", head[16:])


def test_a_legend_hides_its_trace_and_the_config_opens(browser, pages):
    browser.open(pages["two"][0], 1440, "light")
    traces = "document.getElementById('compute-flops')._fullData.map(trace => trace.visible)"
    assert browser.ask(traces) == [True, True, True]
    browser.click("#compute-flops .legend .traces:nth-of-type(1) .legendtoggle")
    browser.wait_for(f"{traces}.includes('legendonly')")
    assert browser.ask(traces) == ["legendonly", True, True]
    config = "document.querySelector('details pre').getBoundingClientRect().height"
    assert browser.ask("document.querySelector('details').open") is False
    browser.click("details summary")
    browser.wait_for("document.querySelector('details').open")
    assert browser.ask(config) > 1000
    assert browser.errors == []


def test_the_button_changes_the_theme(browser, written):
    browser.open(written[0], 1440, "light")
    paper = "getComputedStyle(document.body).backgroundColor"
    ink = "document.querySelector('.xtick text').style.fill"
    before = browser.ask(f"[{paper}, {ink}]")
    browser.ask("document.getElementById('theme').click()")
    after = browser.ask(f"[{paper}, {ink}]")
    assert before[0] == "rgb(255, 255, 255)" and all(a != b for a, b in zip(before, after, strict=True))
    browser.ask("document.getElementById('theme').click()")
    assert browser.ask(f"[{paper}, {ink}]") == before
    assert browser.errors == []

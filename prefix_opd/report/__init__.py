"""One HTML file that tells what came out of runs, and opens without a network.

`content` and `answers` gather it from run folders, `plots` describes a figure of `prefix_opd.analysis.figures` as
Plotly does, `page` puts it all into ``page.html.jinja`` and writes the same figures as PNG. `summary` is the table that
a run ends with.
"""

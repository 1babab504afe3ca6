"""Reports of runs: an HTML file that needs no network, and the summary table at the end of a run.

`content` and `answers` read run folders. `plots` converts figures of `prefix_opd.analysis.figures` to Plotly. `page`
fills ``page.html.jinja`` and writes the figures as PNG. `summary` makes the table.
"""

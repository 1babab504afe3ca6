"""One HTML file that tells what came out of runs, and opens without a network.

`content` gathers it from run folders, `plots` describes the plots as Plotly does, `redact` keeps secrets out, `page`
puts it all into ``page.html.jinja`` and writes the same plots as PNG.
"""

"""Shared by `benchmarks` and `reproduction`: run a case, store its row, write a page. Not in the wheel.

===============  ==================================================================================
``isolation``    a run in a separate process, with the end of all processes that it starts
``process``      run a command or a fork to its end; import once for all forks
``store``        rows as JSON lines
``driver``       run the cases without a row; exit codes, options
``machine``      processor and commit of a measurement
``page``         a table in markdown, a picture as PNG
===============  ==================================================================================

A case is a `driver.Job`: a key, and a function that runs the case and returns its row. A row is a JSON object. A row
with an ``error`` is a failed run, which the next start repeats.
"""

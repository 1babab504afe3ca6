"""The frame that `benchmarks` and `reproduction` share: run a case, store its row, write a page. Not in the wheel.

===============  ==================================================================================
``isolation``    a run in a process of its own; nothing that it starts outlives it
``process``      run a command or a fork to its end; import once what forks share
``store``        rows as JSON lines, and which cases have one
``driver``       run the cases that have no row yet; exit codes, options
``machine``      processor and commit of a measurement
``page``         a table in markdown, a picture as PNG
===============  ==================================================================================

A case is a `driver.Job`: a key, and a function that runs it and returns its row. A row is a JSON object; a row with an
``error`` is a failed run, which the next start repeats.
"""

"""How fast this package trains, beside verl's own distillation and beside TRL, on the miniature and on a CPU.

    bash benchmarks/run.sh --small     # a trial: one repetition of a few cases, into outputs/benchmarks_small
    bash benchmarks/run.sh             # the published numbers, into docs/benchmarks

A case is a real run of a few steps in processes of its own. Repetitions go round all cases in turn, so that a slow
hour of the machine falls on all of them. A case that has a row of this commit is not measured again. `--only` measures
some groups; the page has all that have results. Runs, rows and pages are those of `harness`.

==================  ==================================================================
`cases`             what is measured: every case, by group
`models`            random-weight models of several sizes
`prompts`           prompts of any length
`verl_run`          a case as a run of verl: ours, or verl's own distillation trainer
`clock`             when each of its steps ended, in the trainer's process
`trl_run`           a case in TRL, in an environment of its own (`trl_script`)
`steps`             a training step as a line of a row
`observe`           start-up and memory of a run's process tree
`statistics`        medians, quartiles, least squares
`rows`              measured steps by case and cap, and which stand beside each other
`table`, `savings`  the page, in the words of `words`, with the pictures of `plots`
`aims`              what was to be reached, and whether it is
==================  ==================================================================
"""

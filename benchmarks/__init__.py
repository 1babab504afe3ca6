"""How fast this package trains on a CPU, compared with verl's own distillation and with TRL.

    bash benchmarks/run.sh --small     # a trial: one repetition of a few cases, into outputs/benchmarks_small
    bash benchmarks/run.sh             # the published numbers, into docs/benchmarks
    bash benchmarks/run.sh --gpu       # on GPUs, into docs/benchmarks/gpu.md: `benchmarks.gpu`

A case is a real run of a few steps in its own processes. Repetition 1 of all cases comes before repetition 2 of any,
so a slow hour of the machine affects all cases alike. A case that has a row of this commit is not measured again.
`--only` and `--models` measure a part; the page shows all groups that have results. Runs, rows and pages use `harness`.

==================  ==================================================================
`cases`             what is measured: every case, by group
`models`            random-weight models of several sizes
`prompts`           prompts of any length
`verl_run`          a case as a run of verl: ours, or verl's own distillation trainer
`clock`, `poll`     in the trainer's process: when each step ended; verl's own trainer with our poll interval
`trl_run`           a case in TRL, in an environment of its own (`trl_script`)
`steps`             a training step as a line of a row
`observe`           start-up and memory of a run's process tree
`rows`              measured steps by case and cap, medians, fits, and which rows are compared
`update`            the update alone, without Ray: which saving pays (`update_engine`, `update_variants`)
`table`, `savings`  the page, in the words of `words`, with the pictures of `plots`
`aims`              the aims, and whether they are reached
`gpu`               the same question on GPUs
==================  ==================================================================
"""

"""A killed run of a schedule that adapts finds the L that it would have had."""

from faults.harness import ADAPTS, Run
from prefix_opd.base.errors import EXIT_FAILED, EXIT_STOPPED
from prefix_opd.run.log import read_metrics


def test_a_killed_run_observes_the_validation_of_its_checkpoint(tmp_path):
    run = Run(tmp_path, [*ADAPTS, "trainer.total_training_steps=8"]).start()
    run.wait_for_step(5)
    run.kill("WorkerDict")
    told = run.told()
    assert run.process.returncode in (EXIT_FAILED, EXIT_STOPPED), told
    told = run.start().told()
    assert run.process.returncode == 0, told
    lines = [line for line in read_metrics(run.outputs) if line["step"]]
    # the validations after 2, 4 and 6 are observed with the next update and change the L after it; the one after 4 is
    # before the checkpoint that the killed run goes on from
    assert [line["prefix_opd/prefix_length"] for line in lines] == [4, 4, 4, 8, 8, 16, 16, 32]
    assert [line["step"] for line in lines] == list(range(1, 9))

"""A run that waits for a dead process ends with one line that names it."""

import os
import time

import pytest
import ray
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.core.generated.gcs_pb2 import ActorTableData
from ray.exceptions import RayActorError

from prefix_opd.verl_plugin.process_watch import ProcessWatch, died


def an_actor(state=ActorTableData.DEAD, reason=None, out_of_memory=False):
    actor = ActorTableData(class_name="SimpleStorageUnit", pid=7, state=state)
    if reason:
        actor.death_cause.actor_died_error_context.reason = ActorDiedErrorContext.Reason.Value(reason)
    if out_of_memory:
        actor.death_cause.oom_context.error_message = "Task was killed due to the node running low on memory."
    return actor


@pytest.mark.parametrize("reason", ["OWNER_DIED", "RAY_KILL", "OUT_OF_SCOPE", "REF_DELETED"])
def test_a_process_that_the_run_ended_itself_did_not_die(reason):
    assert died(an_actor(reason=reason)) == ""


def test_how_a_process_died():
    assert died(an_actor(state=ActorTableData.ALIVE)) == ""
    assert died(an_actor(reason="WORKER_DIED")).startswith("the process SimpleStorageUnit (pid 7) died; was it killed")
    assert died(an_actor(reason="NODE_DIED")) == "the process SimpleStorageUnit (pid 7) is lost with its node"
    told = died(an_actor(out_of_memory=True))
    assert told == "Ray killed the process SimpleStorageUnit (pid 7): the machine's memory was full"


@ray.remote(num_cpus=0)
class Waits:
    def pid(self):
        return os.getpid()

    def wait(self):
        time.sleep(600)


def test_a_run_that_waits_for_a_dead_process_is_ended_after_the_grace(tmp_path):
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        task, ended, killed = Waits.remote(), Waits.remote(), Waits.remote()
        pids = ray.get([one.pid.remote() for one in (task, ended, killed)])
        watch = ProcessWatch(task, tmp_path, seconds=600, look=0.1, grace=1.0)
        waiting = task.wait.remote()
        ray.kill(ended)  # on purpose
        time.sleep(2.5)
        assert watch.reason == ""
        os.kill(pids[2], 9)
        with pytest.raises(RayActorError):
            ray.get(waiting, timeout=30)
        assert watch.reason.startswith(f"the process Waits (pid {pids[2]}) died; ")
    finally:
        ray.shutdown()

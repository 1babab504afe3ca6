"""Sampling, scoring and the update in turns: who sleeps, who waits, and what a failure leaves behind."""

import asyncio
import types

import pytest

from prefix_opd.base.errors import RunStopped
from prefix_opd.config.settings import Settings, TeacherSettings
from prefix_opd.verl_plugin.trainer import turns as module
from prefix_opd.verl_plugin.trainer.turns import Turns
from prefix_opd.verl_plugin.worker.gate import Gate


def test_nothing_is_scored_until_all_is_sampled_and_the_trainer_opens_the_gate():
    async def step():
        gate, told = Gate(), []
        await gate.sampled.wait()  # nothing is handed out yet
        gate.hand_out([("a", 2), ("b", 1)])

        async def rollout(uid, number):
            await gate.wait(uid, number)
            told.append((uid, number))

        waiting = [asyncio.create_task(rollout("a", 0)), asyncio.create_task(rollout("b", 0))]
        all_sampled = asyncio.create_task(gate.sampled.wait())
        await asyncio.sleep(0)
        assert not all_sampled.done(), "rollout 1 of prompt a is still being sampled"
        gate.left("a", 1)  # it fails
        await all_sampled
        assert told == [], "sampled, but it is not the teacher's turn"
        gate.opened.set()
        await asyncio.gather(*waiting)
        assert sorted(told) == [("a", 0), ("b", 0)]
        gate.hand_out([("c", 1)])
        late = asyncio.create_task(rollout("c", 0))
        await asyncio.wait_for(gate.sampled.wait(), 5)
        await asyncio.sleep(0)
        assert not late.done(), "the next prompts close the gate"
        gate.opened.set()
        await late

    asyncio.run(step())


def test_a_prompt_that_fails_before_its_rollouts_begin_is_not_waited_for():
    async def step():
        gate = Gate()
        gate.hand_out([("a", 4)])
        gate.ended("a")
        await asyncio.wait_for(gate.sampled.wait(), 5)

    asyncio.run(step())


class Engine:
    """An engine that notes what it is told."""

    def __init__(self, name, told, sleeps=True):
        self.name, self.told, self.config = name, told, types.SimpleNamespace(free_cache_engine=sleeps)
        self.server_address = "127.0.0.1:9"

    async def sleep(self):
        self.told.append(f"{self.name} sleeps")

    async def wake_up(self):
        self.told.append(f"{self.name} wakes")


@pytest.fixture
def trainer(monkeypatch):
    """A trainer whose engines note the order of their turns. Its teacher has two engines."""
    told: list[str] = []
    monkeypatch.setattr(module.ray, "get", lambda calls: told.extend(call for call in calls if call))
    remote = types.SimpleNamespace
    worker = remote(sampled=remote(remote=lambda: "sampled"), score=remote(remote=lambda: "gate opens"))
    student = Engine("student", told)
    teachers = types.SimpleNamespace(rollout_replicas=[Engine("teacher 0", told), Engine("teacher 1", told)])
    engines = types.SimpleNamespace(
        replicas=[student],
        sleep_replicas=lambda: module.call([student], "sleep"),
        update_weights=lambda step: told.append(f"student wakes with the weights of step {step}"),
    )
    made = types.SimpleNamespace(
        settings=Settings(teacher=TeacherSettings(placement="shared", phases="turns")),
        use_teacher_policy=True,
        global_steps=3,
        agent_loop_manager=types.SimpleNamespace(agent_loop_workers=[worker]),
        checkpoint_manager=engines,
        teacher_model_manager=types.SimpleNamespace(teacher_model_managers={"": teachers}),
        told=told,
    )
    made.turns = Turns(made)
    return made


def test_one_engine_is_awake_at_a_time(trainer):
    trainer.turns.begin_scoring()
    assert trainer.told[:2] == ["sampled", "student sleeps"]
    assert sorted(trainer.told[2:4]) == ["teacher 0 wakes", "teacher 1 wakes"]
    assert trainer.told[4:] == ["gate opens"]
    trainer.told.clear()
    trainer.turns.end_scoring()
    assert sorted(trainer.told) == ["teacher 0 sleeps", "teacher 1 sleeps"]
    trainer.turns.end_scoring()  # of a step that ended in the middle
    assert len(trainer.told) == 2
    assert trainer.turns.take_seconds() > 0 and trainer.turns.take_seconds() == 0


def test_a_batch_that_is_sampled_again_finds_the_teacher_asleep(trainer):
    trainer.turns.begin_scoring()
    trainer.told.clear()
    trainer.turns.sample_again()
    assert sorted(trainer.told[:2]) == ["teacher 0 sleeps", "teacher 1 sleeps"]
    assert trainer.told[2:] == ["student wakes with the weights of step 2"]


def test_engines_that_cannot_sleep_are_left_alone(trainer):
    for engine in module.replicas(trainer.teacher_model_manager):
        engine.config.free_cache_engine = False
    trainer.turns.begin_scoring()
    trainer.turns.end_scoring()
    assert trainer.told == ["sampled", "student sleeps", "gate opens"]


def test_an_engine_that_cannot_change_its_turn_ends_the_run_in_one_line(trainer):
    async def dead():
        raise OSError("CUDA out of memory\nand much more")

    module.replicas(trainer.teacher_model_manager)[1].wake_up = dead
    with pytest.raises(RunStopped, match=r"step 3: waking the teacher failed \(OSError: CUDA out of memory"):
        trainer.turns.begin_scoring()


def test_phases_that_overlap_change_nothing(trainer):
    trainer.settings = Settings()
    overlapping = Turns(trainer)
    overlapping.begin_scoring()
    overlapping.end_scoring()
    assert trainer.told == [] and not overlapping.taken

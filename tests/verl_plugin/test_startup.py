"""What waits for what while student and teacher start, by where the teacher lives and what its engine measures."""

import threading
import types

import pytest
from verl.trainer.ppo.utils import Role

from prefix_opd.config.compose import compose
from prefix_opd.config.settings import Settings, TeacherSettings
from prefix_opd.verl_plugin.trainer import startup as module
from prefix_opd.verl_plugin.trainer.startup import EngineStartup

SHARED = "prefix_opd.teacher.placement=shared"
BYTES = [
    f"++{node}.engine_kwargs.vllm.kv_cache_memory_bytes=1000000"
    for node in ("actor_rollout_ref.rollout", "distillation.teacher_models.teacher_model.inference")
]
OWN, ON_A_GPU, ON_THE_CPU = ["platform=gpu"], ["platform=gpu", SHARED], ["platform=cpu", SHARED]


class Starting:
    """A start-up whose teacher comes up when the test says so. ``told`` has what happened, in order."""

    def __init__(self, overrides, monkeypatch, phases="overlap"):
        self.told, self.up = [], threading.Event()
        config = compose(["experiment=tiny/schedule", *overrides])
        pool = types.SimpleNamespace(get_placement_groups=lambda device_name: self.told.append("placement groups"))
        self.pools = types.SimpleNamespace(
            resource_pool_spec={"global_pool": [1], "teacher_pool": [1]},
            mapping={Role.ActorRollout: "global_pool", Role.TeacherModel: "teacher_pool"},
            create_resource_pool=lambda: self.told.append("pools"),
            get_resource_pool=lambda role: pool,
        )
        placement = config.prefix_opd.teacher.placement
        trainer = types.SimpleNamespace(
            config=config,
            settings=Settings(teacher=TeacherSettings(placement=placement, phases=phases)),
            use_teacher_policy=True,
            events=types.SimpleNamespace(milestone=lambda text: None),
            resource_pool_manager=self.pools,
            turns=types.SimpleNamespace(taken=phases == "turns"),
        )

        async def sleep():
            self.told.append("teacher sleeps")

        engine = types.SimpleNamespace(config=types.SimpleNamespace(free_cache_engine=True), sleep=sleep)
        teacher = types.SimpleNamespace(rollout_replicas=[engine])

        def manager(config, resource_pool):
            self.told.append("teacher starts")
            assert self.up.wait(20)
            return types.SimpleNamespace(teacher_model_managers={"": teacher}, get_client=lambda: "client")

        monkeypatch.setattr(module, "is_replaced", lambda target: True)
        monkeypatch.setattr(module, "original", lambda target: manager)
        self.startup = EngineStartup(trainer)
        self.startup.begin()

    def hand_over(self):
        """What verl gets when the student's trainer is ready; None while it waits for the teacher."""
        found = []
        thread = threading.Thread(target=lambda: found.append(self.startup.hand_over()), daemon=True)
        thread.start()
        thread.join(0.3)
        waited = not found
        self.up.set()
        thread.join(20)
        assert found[0].get_client() == "client"
        return waited


@pytest.mark.parametrize("overrides", [OWN, ON_THE_CPU], ids=["own GPUs", "simulated GPUs"])
def test_engines_that_measure_nothing_together_start_side_by_side(overrides, monkeypatch):
    starting = Starting(overrides, monkeypatch)
    assert not starting.hand_over(), "the student's engine does not wait for the teacher's"
    assert "teacher_pool" in starting.pools.resource_pool_spec or SHARED in overrides


def test_a_teacher_that_measures_the_students_gpu_waits_for_the_trainer(monkeypatch):
    starting = Starting(ON_A_GPU, monkeypatch)
    assert starting.told == ["pools", "placement groups"]
    assert starting.hand_over(), "and the student's engine waits for the teacher's"
    assert starting.told[2:] == ["teacher starts"]


def test_a_cache_of_a_given_size_lets_the_teacher_start_beside_the_trainer(monkeypatch):
    starting = Starting([*ON_A_GPU, *BYTES], monkeypatch)
    assert starting.hand_over(), "the student's engine falls asleep when it is up, and measures memory for that"
    assert starting.told == ["pools", "placement groups", "teacher starts"]


def test_a_teacher_that_takes_turns_sleeps_before_the_students_engine_starts(monkeypatch):
    starting = Starting([*ON_A_GPU, *BYTES], monkeypatch, phases="turns")
    assert starting.hand_over()
    assert starting.told[-1] == "teacher sleeps"


def test_a_shared_pool_is_the_students(monkeypatch):
    pools = Starting(ON_A_GPU, monkeypatch).pools
    assert pools.resource_pool_spec == {"global_pool": [1]}
    assert pools.mapping[Role.TeacherModel] == "global_pool"

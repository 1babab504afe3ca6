"""verl itself accepts what the GPU experiments compose to: its dataclasses check far more than a YAML does."""

import pytest
from hydra.errors import InstantiationException
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from vllm import SamplingParams

from prefix_opd.base.errors import UserError
from prefix_opd.checks.preflight import check
from prefix_opd.checks.sizes import check_lengths
from prefix_opd.config.compose import compose
from prefix_opd.config.overrides import options
from prefix_opd.config.settings import Settings

LAYOUTS = options("layout")
PAPER = [name for name in options("experiment") if name.startswith("qwen3_")]
PAIRS = [(name, layout) for name in PAPER for layout in LAYOUTS if "schedule" in name or layout == "node_8x80gb"]
pytestmark = pytest.mark.usefixtures("cached_files")


@pytest.mark.parametrize(("experiment", "layout"), PAIRS)
def test_verl_accepts_it(experiment, layout):
    config = compose([f"experiment={experiment}", f"layout={layout}"])
    validate_config(config, need_reference_policy(config), need_critic(config))
    distillation = omega_conf_to_dataclass(config.distillation)
    omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    teachers = list(distillation.teacher_models.values())
    assert len(teachers) == 1 and teachers[0].num_replicas >= 1
    assert not need_critic(config) and not need_reference_policy(config)
    # the trainer's ranks must hold whole rollout replicas
    ranks = config.trainer.n_gpus_per_node * config.trainer.nnodes
    assert ranks % rollout.tensor_model_parallel_size == 0
    if config.prefix_opd.teacher.placement == "shared":
        assert teachers[0].num_replicas * teachers[0].per_replica_world_size == ranks


def engines(config):
    return config.actor_rollout_ref.rollout, config.distillation.teacher_models.teacher_model.inference


@pytest.mark.parametrize("layout", LAYOUTS)
def test_engines_hold_one_sequence_and_the_token_beside_a_score(layout):
    for given, room in (([], 18433), (["data.max_prompt_length=512", "data.max_response_length=1024"], 1537)):
        config = compose(["experiment=qwen3_8b/schedule", f"layout={layout}", *given])
        assert [engine.max_model_len for engine in engines(config)] == [room, room]
        check_lengths(config, Settings())
        omega_conf_to_dataclass(config.distillation)
        # verl's own rule for teachers asks for no less
        engines(config)[1].max_model_len = room - 1
        with pytest.raises(InstantiationException, match="requires room for the student prompt"):
            omega_conf_to_dataclass(config.distillation)


def test_a_length_that_is_none_is_refused_by_its_own_name():
    config = compose(["experiment=qwen3_8b/schedule", "data.max_response_length=many"])
    assert engines(config)[0].max_model_len is None
    with pytest.raises(UserError, match="data.max_response_length=many: must be a whole number"):
        check(config)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_teacher_scores_at_once_is_bounded(layout):
    student, teacher = engines(compose(["experiment=qwen3_8b/full", f"layout={layout}"]))
    # without chunks verl would raise the batch to a whole sequence, and its logits with it
    assert teacher.enable_chunked_prefill and teacher.max_num_batched_tokens < teacher.max_model_len
    assert student.enable_prefix_caching and not teacher.enable_prefix_caching


def test_vllm_still_reads_no_cache_for_a_score():
    asked = {"max_tokens": 1, "temperature": 1.0}
    assert SamplingParams(prompt_logprobs=0, **asked).skip_reading_prefix_cache
    assert not SamplingParams(logprobs=0, **asked).skip_reading_prefix_cache


def test_validation_draws_as_the_paper_evaluates_whatever_training_does():
    given = ["actor_rollout_ref.rollout.temperature=0.7", "actor_rollout_ref.rollout.top_p=0.9"]
    drawn = compose(["experiment=qwen3_8b/full", *given]).actor_rollout_ref.rollout.val_kwargs
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.do_sample, drawn.n) == (1.0, 1.0, -1, True, 16)


def test_there_are_experiments_for_all_sizes():
    assert {name.split("/")[0] for name in PAPER} == {"qwen3_8b", "qwen3_1.7b", "qwen3_0.6b"}

"""verl is what this package was written against."""

import pytest

from prefix_opd.base.patching import original
from prefix_opd.verl_plugin.contract import HOOKS, Hook, _broken, check_contract, derived


def test_verl_has_every_hook_that_we_extend():
    broken = check_contract()
    assert not broken, "verl has changed under us:\n" + "\n".join(broken)


def test_a_change_would_be_told():
    gone = Hook("verl.trainer.main_ppo:run_everything", "", "main")
    assert "is gone" in _broken(gone)
    other = Hook("verl.trainer.main_ppo:run_ppo", "settings", "main")
    assert "now takes ['config', 'task_runner_class'], not ['settings']" in _broken(other)
    unread = Hook("verl.trainer.main_ppo:run_ppo", "config", "main", "get_ppo_ray_runtime_env an_old_name")
    assert "run_ppo does not use an_old_name any more" in _broken(unread)


@pytest.mark.parametrize("name", ["AgentLoopWorkerTQ"])
def test_the_worker_is_a_ray_actor_over_a_class(name):
    import verl.trainer.ppo.v1.agent_loop_tq as module

    worker = getattr(module, name).__ray_metadata__.modified_class
    assert "_agent_loop_postprocess" in vars(worker)


def test_sync_is_still_a_literal_that_verl_compares_with():
    """Our trainer is named prefix_opd and reports "sync" to verl (see PrefixOPDTrainer.__init__)."""
    import inspect

    from verl.trainer.ppo.v1 import trainer_base

    assert 'self.trainer_mode == "sync"' in inspect.getsource(trainer_base.PPOTrainer._build_replay_buffer)


def test_hooks_are_named_once():
    assert len({hook.where for hook in HOOKS}) == len(HOOKS)


def test_what_our_classes_extend_and_what_patches_replace_are_hooks_too():
    found = {hook.where: hook for hook in derived()}
    step = found["verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync._compute_metrics"]
    assert step.parameters == "batch metrics timing_raw global_steps epoch"
    assert "verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync.on_sample_begin" in found  # of a mixin
    log_probs = found["verl.utils.torch_functional:logprobs_from_logits_v2"]
    assert log_probs.parameters == "logits labels" and log_probs.why == "the patch log_probs"
    assert len(found) > 60


def test_it_looks_at_what_verl_defines_not_at_what_replaced_it():
    from verl.utils import torch_functional

    where = "verl.utils.torch_functional:logprobs_from_logits_v2"
    assert original(where) is not torch_functional.logprobs_from_logits_v2
    assert original(where).__code__.co_filename == torch_functional.__file__

"""The agent-loop worker: the engine stops a training rollout at its L. Validation is never capped.

The trainer writes L on the row (`fields.PREFIX_LENGTH`). The worker sets L as ``max_tokens`` in a copy of the sampling
parameters, since verl shares one dict among the n rollouts of a prompt. This works for every agent loop: with several
turns, L counts the student's tokens over all of them (`prefix_opd.verl_plugin.worker.student_turns`).
"""

from __future__ import annotations

import pkgutil
import time
from typing import Any

import ray
import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, _agent_loop_registry
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from prefix_opd.base.errors import one_line
from prefix_opd.checks.chat_template import template_variables
from prefix_opd.config.plugins import look_here
from prefix_opd.config.settings import Settings
from prefix_opd.config.teachers import ROUTED_BY
from prefix_opd.method import teacher_prompt
from prefix_opd.method.advantage import at_students_positions
from prefix_opd.method.seeds import rollout_seed
from prefix_opd.verl_plugin import fields
from prefix_opd.verl_plugin.fields import PREFIX_LENGTH, RECORD
from prefix_opd.verl_plugin.worker.gate import Gate
from prefix_opd.verl_plugin.worker.progress import NoProgress, Progress, watched
from prefix_opd.verl_plugin.worker.student_turns import ROLLOUT, Rollout, StudentClient


class _FinalOnly:
    """vLLM's ``RequestOutputKind.FINAL_ONLY``, once a server has unpickled it.

    Importing vLLM in an agent-loop worker would cost about ten seconds and half a gigabyte.
    """

    def __reduce__(self):
        return pkgutil.resolve_name, ("vllm.sampling_params:RequestOutputKind.FINAL_ONLY",)


FINAL_ONLY = _FinalOnly()
ATTEMPT = "prefix_opd_attempt"
"""The field of a batch for the number of times it was discarded and sampled again."""

# AgentLoopWorkerTQ is a Ray actor class; only the class beneath it can be subclassed.
_AgentLoopWorker = AgentLoopWorkerTQ.__ray_metadata__.modified_class


class PrefixAgentLoopWorker(_AgentLoopWorker):
    """verl's agent-loop worker with L, stop tokens, seeds, and a record of each rollout's ending and times."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.settings = Settings.from_node(self.config.prefix_opd)
        self.longest_response = int(self.config.data.max_response_length)
        self.dispatched_at = 0.0
        self.failures: list[str] = []
        self.gate = Gate() if self.settings.teacher.takes_turns else None
        self.progress = Progress(self.settings.rollout.timeout_seconds)
        self.llm_client = StudentClient(self.llm_client, self.progress)
        if "." in (loop := self.rollout_config.agent.default_agent_loop):  # MODULE.CLASS, which verl does not look for
            look_here()
            _agent_loop_registry[loop] = {"_target_": loop}
        if self.distillation_enabled:
            clients = self.teacher_server_manager.teacher_client
            self.teacher_server_manager.teacher_client = {
                name: watched(client, self.progress) for name, client in clients.items()
            }

    async def generate_sequences(self, batch) -> None:
        self.dispatched_at = time.monotonic()
        if self.gate and not ("validate" in batch and batch["validate"]):
            rollouts = batch["__rollout_n__"] if "__rollout_n__" in batch else [self.rollout_config.n] * len(batch)
            self.gate.hand_out(zip(map(str, batch["uid"]), map(int, rollouts), strict=True))
        await super().generate_sequences(batch)

    async def _run_prompt(self, prompt, *args, **kwargs) -> None:
        uid = str(prompt["uid"])
        try:
            await super()._run_prompt(prompt, *args, **kwargs)
        finally:
            if self.gate:
                self.gate.ended(uid)

    async def _run_agent_loop(self, sampling_params: dict[str, Any], trajectory: dict[str, Any], **kwargs):
        sampling_params = dict(sampling_params, stop_token_ids=list(self.settings.stop_token_ids))
        if self.settings.ignore_own_end_token:
            sampling_params["ignore_eos"] = True
        longest = self.longest_response
        if not trajectory["validate"]:
            if isinstance(kwargs[PREFIX_LENGTH], list):  # one L for each rollout of the prompt
                kwargs[PREFIX_LENGTH] = kwargs[PREFIX_LENGTH][int(kwargs["session_id"])]
            longest = sampling_params["max_tokens"] = int(kwargs[PREFIX_LENGTH])
            if fields.PROBE_SEED in kwargs:  # a seed keeps the probe from changing the engine's random stream
                sampling_params["seed"] = int(kwargs[fields.PROBE_SEED])
        if self.settings.rollout.final_output_only and self.rollout_config.name == "vllm":
            # verl reads only the tokens of the finished rollout; stop strings need the text
            sampling_params.update(output_kind=FINAL_ONLY, detokenize=bool(sampling_params.get("stop")))
        if self.settings.rollout.seeded is not None:
            sampling_params.setdefault("seed", self._seed(trajectory, kwargs))
        ROLLOUT.set(Rollout(longest, self.settings.rollout.tool_tokens))
        rollout = super()._run_agent_loop(sampling_params, trajectory, **kwargs)
        return await self._noting_failure(self.progress.watch(rollout), trajectory, kwargs)

    def _seed(self, trajectory: dict[str, Any], sample: dict[str, Any]) -> int:
        # the index alone is not enough: verl uses 0 for every row of a data set without indices
        prompt = [str(trajectory["sample_index"]), list(sample["raw_prompt"])]
        if copy := int(sample.get(fields.COPY, 0)):
            prompt.append(copy)
        place = (int(trajectory["step"]), prompt, int(sample["session_id"]), int(sample.get(ATTEMPT, 0)))
        return rollout_seed(self.settings.rollout.seeded, *place, validate=bool(trajectory["validate"]))

    async def _noting_failure(self, rollout, trajectory: dict[str, Any], sample: dict[str, Any]):
        """Wait for a rollout and its score. A failure is kept for the trainer's message and raised again."""
        try:
            return await rollout
        except Exception as error:
            told = str(error) if isinstance(error, NoProgress) else one_line(error)
            self.failures.append(f"row {trajectory['sample_index']}, rollout {sample['session_id']}: {told}")
            raise
        finally:
            if self.gate:  # a failed rollout does not come to the gate
                self.gate.left(str(sample["uid"]), int(sample["session_id"]))

    async def sampled(self) -> None:
        """Wait until every training rollout of this worker waits for the teacher, or has failed."""
        await self.gate.sampled.wait()

    async def score(self) -> None:
        """Begin the teacher's turn."""
        self.gate.opened.set()

    async def take_failures(self) -> list[str]:
        """Failures since the last call, one line per rollout."""
        taken, self.failures = self.failures, []
        return taken

    async def alive(self) -> None:
        """Ray raises in the caller if this process is gone."""

    async def _agent_loop_postprocess(self, output, validate: bool, **kwargs) -> None:
        (one, *others) = output if isinstance(output, list) else [output]
        rollout, generated_at = ROLLOUT.get(), time.monotonic() - self.dispatched_at
        if others:
            raise RuntimeError(f"the agent loop returned {len(output)} outputs for a rollout; verl scores one only")
        if not validate:
            rollout.settle(one)
            # A prefix has no final answer to reward. With a score of 0 verl runs no scorer.
            one.reward_score = 0.0
            one.extra_fields["reward_extra_info"] = {}
        one.extra_fields[RECORD] = {
            "ending": rollout.ending(self.settings.stop_token_ids),
            "generated_at": generated_at,
            "source": str(kwargs.get(ROUTED_BY)),
            fields.TURNS: len(rollout.turns),
            fields.SAMPLED: len(rollout.sampled),
        }
        await super()._agent_loop_postprocess(output, validate, **kwargs)

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict) -> None:
        with self.progress.standing_still():
            await super()._compute_score(outputs, kwargs)
        final = outputs[-1]
        record = final.extra_fields[RECORD]
        if "reward_extra_info" in final.extra_fields and final.extra_fields["reward_extra_info"]:
            # verl averages each of these numbers over the validation set
            final.extra_fields["reward_extra_info"].update(
                response_length=len(ROLLOUT.get().sampled), natural_end=float(record["ending"] == "natural")
            )

    async def _compute_teacher_logprobs(self, output: AgentLoopOutput, prompt_ids, response_ids, validate, **kwargs):
        if validate or not self.distillation_enabled:
            return
        if self.gate:
            sample = kwargs["sample_kwargs"]
            await self.gate.wait(str(sample["uid"]), int(sample["session_id"]))
        own = self._teachers_prompt(kwargs["sample_kwargs"]) if self.settings.teacher_prompt.is_own else prompt_ids
        await super()._compute_teacher_logprobs(output, own, response_ids, validate, **kwargs)
        answer, record = output.extra_fields, output.extra_fields[RECORD]
        record["scored_at"] = time.monotonic() - self.dispatched_at
        if self.settings.loss.needs_topk:
            check_scored_length(answer["teacher_logprobs"], len(own) + len(response_ids))
        else:
            # Check here that the teacher scored the sampled tokens; then its token ids need not be sent on.
            check_scored_tokens(answer.pop("teacher_ids").reshape(-1)[:-1], [*own, *response_ids])
        if self.settings.teacher_prompt.is_own:
            record[fields.TEACHER_PROMPT_LENGTH] = len(own)
            for name in {"teacher_ids", "teacher_logprobs"} & answer.keys():
                answer[name] = at_students_positions(answer[name], len(own), len(prompt_ids))

    def _teachers_prompt(self, sample: dict[str, Any]) -> list[int]:
        """Token ids of the teacher's own prompt for a row of the data, in the student's chat template."""
        messages = self.settings.teacher_prompt.messages(list(sample["raw_prompt"]), sample)
        return teacher_prompt.prompt_ids(self.tokenizer, messages, **template_variables(self.config))


def check_scored_length(log_probs: torch.Tensor, tokens: int) -> None:
    """Raise RuntimeError unless a teacher's top-k answer has one row per token of the sequence."""
    if len(log_probs) != tokens:
        raise RuntimeError(f"the teacher scored {len(log_probs)} tokens of {tokens}")


def check_scored_tokens(scored: torch.Tensor, sequence: list[int]) -> None:
    """Raise RuntimeError unless entry i of a teacher's answer scores token i + 1 of the sequence."""
    expected = torch.tensor(sequence[1:], dtype=scored.dtype)
    check_scored_length(scored, len(expected))
    if not torch.equal(scored, expected):
        position = int((scored != expected).nonzero()[0, 0])
        raise RuntimeError(
            f"the teacher scored token {int(scored[position])} at position {position + 1}, "
            f"where the sequence has {int(expected[position])}: its answer is misaligned"
        )


class PrefixAgentLoopManager(AgentLoopManagerTQ):
    """The class in ``actor_rollout_ref.rollout.agent.agent_loop_manager_class``."""

    worker = PrefixAgentLoopWorker

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(self.worker)

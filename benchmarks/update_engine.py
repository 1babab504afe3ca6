"""verl's FSDP engine around a model of random weights, and one update of it as a variant has it."""

from __future__ import annotations

import functools
import gc
import importlib.util
import math
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

from benchmarks.rows import spread
from benchmarks.update_variants import AS_BEFORE, MICRO_BATCHES, PACKED, SHAPES, Sizes, Variant, row
from prefix_opd.config.keys import PACKED_ATTENTION
from prefix_opd.cost.arithmetic import ACCELERATORS, GIB
from prefix_opd.method.flops import ModelShape


class Bench:
    """An engine, and what it takes to measure variants on it. A failed variant leaves a new engine."""

    def __init__(self, device: str, shape: str):
        import torch
        from transformers import Qwen3Config
        from verl.utils.config import omega_conf_to_dataclass

        from prefix_opd.config.compose import compose

        config = compose([f"platform={'gpu' if device == 'cuda' else 'cpu'}", "experiment=tiny/full"])
        self.actor, self.distillation = map(
            omega_conf_to_dataclass, (config.actor_rollout_ref.actor, config.distillation)
        )
        self.device = device
        self.config = Qwen3Config(**{**SHAPES[shape], "attn_implementation": "sdpa"})
        self.shape = ModelShape.from_config(SHAPES[shape])
        name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        kind = next((kind for kind in ACCELERATORS if kind in name.lower()), None)
        self.peak = ACCELERATORS[kind].peak if kind else math.nan
        self.told = f"{name}, torch {torch.__version__}"
        self.packed = False
        """Whether our attention works here."""
        self.first: dict[Sizes, torch.Tensor] = {}
        """The gradient of the first row."""
        self.engine = self._engine()

    def _engine(self):
        import torch
        from transformers import Qwen3ForCausalLM
        from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

        model = SimpleNamespace(
            hf_config=self.config,
            use_remove_padding=True,
            lora_rank=0,
            enable_gradient_checkpointing=True,
            enable_activation_offload=False,
        )
        engine = FSDPEngineWithLMHead(model, self.actor.engine, self.actor.optim, self.actor.checkpoint)

        def build():
            torch.manual_seed(0)
            with torch.device(self.device):
                made = Qwen3ForCausalLM(self.config)
            made.gradient_checkpointing_enable({"use_reentrant": False})
            return made

        engine._build_module = build  # in place of a checkpoint from a folder
        engine._build_model_optimizer()
        return engine

    def row(self, variant: Variant, sizes: Sizes, updates: int) -> list[str]:
        """Measure a variant: one update that warms up, then so many that count."""
        import torch

        try:
            with self._as(variant):
                return self._measured(variant, sizes, updates)
        except Exception as error:  # a row, so that the others are measured
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self.engine = None
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
        self.engine = self._engine()
        return row(variant, f"failed: {reason[:100]}")

    def profile(self, variant: Variant, sizes: Sizes) -> str:
        """The operations of one update, those that take most of the device's time first."""
        import torch

        with self._as(variant):
            self._measured(variant, sizes, 1)
            with torch.profiler.profile() as profiler:
                self._measured(variant, sizes, 1)
        column = "self_device_time_total" if self.device == "cuda" else "self_cpu_time_total"
        return profiler.key_averages().table(sort_by=column, row_limit=40, max_name_column_width=70)

    def _measured(self, variant: Variant, sizes: Sizes, updates: int) -> list[str]:
        import torch

        from prefix_opd.verl_plugin.engine import layers

        cuda, number = self.device == "cuda", MICRO_BATCHES * sizes.rows
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(1 + updates):
            data = _batch(sizes, number, self.shape.vocab_size, variant)
            start = time.perf_counter()
            with self.engine.train_mode():
                self.engine.optimizer_zero_grad()
                output = self.engine.forward_backward_batch(data, self._loss())
                if not seconds:
                    gradient = self._few_gradients()
                self.engine.optimizer_step()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        taken, tokens = spread(seconds[1:]).median, number * sizes.sequence
        flops = self.shape.train_flops([sizes.sequence] * number)
        if sizes not in self.first:
            self.first[sizes] = gradient
        if variant is PACKED:
            self.packed = True
        note = f"first update {seconds[0]:.1f} s"
        if variant.settings.get("fit_memory"):
            checkpointed = layers.are_checkpointed(self.engine.module)
            note += f"; {'with' if checkpointed else 'no'} checkpointing, {data['max_token_len_per_gpu']} tokens"
        return [
            variant.name,
            f"{1000 * taken:.0f}",
            f"{tokens / taken:.0f}",
            f"{flops / taken / self.peak:.1%}",
            f"{torch.cuda.max_memory_allocated() / GIB:.1f}" if cuda else "–",
            f"{sum(output['loss']):.5f}",
            f"{(gradient - self.first[sizes]).norm() / self.first[sizes].norm():.1e}",
            note,
        ]

    def _loss(self):
        from verl.trainer.distillation.losses import distillation_ppo_loss

        return functools.partial(distillation_ppo_loss, config=self.actor, distillation_config=self.distillation)

    def _few_gradients(self):
        """Gradients of a few weights of the first, the middle and the last layer, and of the embedding's first rows."""
        import torch

        module, last = self.engine.module, len(self.engine.module.model.layers) - 1
        parts = [module.model.norm.weight, module.model.embed_tokens.weight]
        for number in {0, last // 2, last}:
            layer = module.model.layers[number]
            parts += [layer.self_attn.q_proj.weight, layer.mlp.down_proj.weight, layer.input_layernorm.weight]
        return torch.cat([part.grad.to_local()[:2048].flatten().float().cpu() for part in parts])

    @contextmanager
    def _as(self, variant: Variant):
        """The engine as a variant has it."""

        from verl.workers.config.optimizer import build_optimizer

        from prefix_opd.verl_plugin.engine import fused_head, layers

        module, own = self.engine.module, fused_head.label_log_probs
        flash = "flash_attention_2" if importlib.util.find_spec("flash_attn") and self.device == "cuda" else "sdpa"
        ours = variant is PACKED or (self.packed and variant is not AS_BEFORE)
        module.config._attn_implementation = PACKED_ATTENTION if ours else flash
        layers.checkpoint(module, variant.checkpointed)
        module.set_reshard_after_forward(variant.reshard)
        # verl's config is frozen
        object.__setattr__(self.engine.engine_config, "reshard_after_forward", variant.reshard)
        object.__setattr__(self.engine.engine_config, "use_no_sync_for_gradient_accumulation", variant.reduce_once)
        self.engine.optimizer = None
        optimizer = replace(self.actor.optim, lr=0.0, override_optimizer_config={"fused": variant.fused_adam})
        self.engine.optimizer = build_optimizer(module.parameters(), optimizer)
        if variant.verls_head:
            fused_head.label_log_probs = _verls_head
        try:
            with _one_graph() if variant.one_graph else nullcontext():
                yield
        finally:
            fused_head.label_log_probs = own
            for layer in module.model.layers:
                vars(layer).pop("forward", None)


@contextmanager
def _one_graph():
    """Compiled layers hold the attention: the bounds of a pack have a fixed size, filled up by empty sequences."""
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from prefix_opd.verl_plugin.engine import packed_attention

    apart, of_pack = ALL_ATTENTION_FUNCTIONS[PACKED_ATTENTION], packed_attention.bounds

    def padded(offsets):
        found, missing = of_pack(offsets), -len(offsets) % 64
        for name in ("cu_seq_lens_q", "cu_seq_lens_k"):
            found[name] = torch.cat([found[name], found[name][-1:].expand(missing)])
            torch._dynamo.mark_static(found[name])
        return found

    torch._dynamo.reset()
    ALL_ATTENTION_FUNCTIONS[PACKED_ATTENTION], packed_attention.bounds = packed_attention.attention, padded
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS[PACKED_ATTENTION], packed_attention.bounds = apart, of_pack
        torch._dynamo.reset()


def _verls_head(hidden, weight, labels, temperatures, keep, compiled):
    import torch
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

    return linear_cross_entropy(hidden.to(torch.bfloat16), weight.to(torch.bfloat16), labels, 1.0, "none")[0]


def _batch(sizes: Sizes, number: int, vocabulary: int, variant: Variant):
    """A batch of so many sequences as verl's trainer sends it to the engine."""
    import torch
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu

    from prefix_opd.config.settings import Settings
    from prefix_opd.verl_plugin.fields import SETTINGS

    def nested(rows):
        return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)

    random, response = torch.Generator().manual_seed(0), (number, sizes.response)
    ids = torch.randint(vocabulary, (number, sizes.sequence), generator=random)
    fields = dict(
        input_ids=ids,
        position_ids=torch.arange(sizes.sequence).expand(number, -1),
        prompts=ids[:, : sizes.prompt],
        responses=ids[:, sizes.prompt :],
        loss_mask=torch.ones(response, dtype=torch.long),
        response_mask=torch.ones(response, dtype=torch.long),
        rollout_log_probs=torch.full(response, -math.log(vocabulary)),
        advantages=torch.randn(response, generator=random),
    )
    data = TensorDict({name: nested(rows.unbind()) for name, rows in fields.items()}, batch_size=number)
    tu.assign_non_tensor(
        data,
        temperature=1.0,
        global_batch_size=number,
        use_remove_padding=True,
        use_dynamic_bsz=True,
        max_token_len_per_gpu=-(-number // variant.micro_batches) * sizes.sequence,
        **{SETTINGS: Settings(update=variant.settings)},
    )
    return data

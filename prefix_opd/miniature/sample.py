"""Sample responses with a key-value cache: B prompts at a time, temperature 1, both end tokens."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from prefix_opd.miniature.task import END_OF_TEXT, END_OF_TURN


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    max_new_tokens: int,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Continue each of the B prompts until an end token (included in the result) or ``max_new_tokens``.

    Samples from the full softmax, without top-k and top-p.
    """
    ends = torch.tensor(tokenizer.convert_tokens_to_ids([END_OF_TEXT, END_OF_TURN]))
    batch = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    position = (mask.cumsum(1) - 1).clamp(min=0)
    cache, columns = None, []
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    for _ in range(max_new_tokens):
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        ids = torch.multinomial(out.logits[:, -1].float().softmax(-1), 1, generator=generator)  # [B, 1]
        columns.append(ids)
        ended |= torch.isin(ids[:, 0], ends)
        if ended.all():
            break
        # Ended rows continue to compute; their extra tokens are cut off below.
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
        position = position[:, -1:] + 1
    rows, stops = torch.cat(columns, 1).tolist(), set(ends.tolist())
    return [row[: next((i + 1 for i, token in enumerate(row) if token in stops), len(row))] for row in rows]

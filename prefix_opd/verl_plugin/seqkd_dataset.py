"""Answers cut after their first tokens, for prefix SeqKD by verl's own SFT trainer."""

from __future__ import annotations

from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset


class PrefixSFTDataset(MultiTurnSFTDataset):
    """Named by ``data.custom_cls``. ``data.answer_tokens`` response tokens of each example stay; ``null``: all.

    verl's own ``data.max_length`` counts the prompt too, whose length differs from example to example.
    """

    def __init__(self, *args, config, **kwargs):
        super().__init__(*args, config=config, **kwargs)
        self.answer_tokens = config.get("answer_tokens")

    def __getitem__(self, item):
        example = super().__getitem__(item)
        if self.answer_tokens is None:
            return example
        first = int(example["loss_mask"].nonzero()[0])
        return {name: value[..., : first + self.answer_tokens] for name, value in example.items()}

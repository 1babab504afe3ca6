"""A data set with truncated answers, for prefix SeqKD with verl's SFT trainer."""

from __future__ import annotations

from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset


class PrefixSFTDataset(MultiTurnSFTDataset):
    """The class in ``data.custom_cls``. Keeps the first ``data.answer_tokens`` response tokens; ``null``: all.

    verl's ``data.max_length`` also counts the prompt, whose length varies.
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

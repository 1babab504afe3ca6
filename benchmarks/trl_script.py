"""A few on-policy steps of one of TRL's trainers. Runs in TRL's own environment and imports nothing of this project.

    python trl_script.py SETTINGS.json STEPS.jsonl

Every trainer samples with the student in the process (transformers' `generate`), asks the teacher's whole
distribution, and takes one step of AdamW. Reverse KL, temperature 1, fp32. One line a step:
``{"step": 1, "seconds": 0.2, "tokens": 1024, "prompt": 58.0}``.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback


def main(settings: dict, out: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(settings["student"])
    tokenizer.chat_template = settings["chat_template"]
    tokenizer.padding_side = "left"
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(settings[role], dtype=torch.float32) for role in ("student", "teacher")
    )
    sampled = SampledTokens(student)
    with tempfile.TemporaryDirectory() as folder:
        trainer = TRAINERS[settings["trainer"]](student, teacher, tokenizer, settings, arguments(settings, folder))
        trainer.generation_config.min_new_tokens = settings["cap"]  # no response ends before the cap
        trainer.add_callback(StepClock(sampled, out))
        trainer.train()


def arguments(settings: dict, folder: str) -> dict:
    """The arguments that all trainers' configs share."""
    return dict(
        output_dir=folder,
        per_device_train_batch_size=settings["sequences"],
        max_steps=settings["steps"],
        learning_rate=settings["lr"],
        gradient_checkpointing=False,
        temperature=1.0,
        beta=1.0,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )


def gkd(student, teacher, tokenizer, settings, shared):
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    # Token ids, as its collator would cut the forced end off a chat's prompt. The completions are placeholders that
    # it replaces by what the student samples: they only tell the loss how many tokens to divide by.
    rows = []
    for messages in settings["prompts"]:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        filler = [tokenizer.eos_token_id] * settings["cap"]
        rows.append({"prompt": text, "input_ids": ids + filler, "completion_mask": [0] * len(ids) + [1] * len(filler)})
    config = GKDConfig(**shared, lmbda=1.0, max_new_tokens=settings["cap"])
    data = Dataset.from_list(rows)
    return GKDTrainer(student, teacher, args=config, train_dataset=data, processing_class=tokenizer)


def distillation(student, teacher, tokenizer, settings, shared):
    from trl import DistillationConfig, DistillationTrainer

    config = DistillationConfig(**shared, max_completion_length=settings["cap"])
    data = Dataset.from_list([{"prompt": messages} for messages in settings["prompts"]])
    return DistillationTrainer(student, teacher, args=config, train_dataset=data, processing_class=tokenizer)


def iw_opd(student, teacher, tokenizer, settings, shared):
    from trl.experimental.iw_opd import IWOPDConfig, IWOPDTrainer

    config = IWOPDConfig(**shared, lmbda=1.0, top_p=1.0, max_completion_length=settings["cap"])
    # Its loss divides by the tokens of the data's own completions, and without one by 0; so there is a placeholder,
    # one character a token, which is replaced by what the student samples.
    filler = {"role": "assistant", "content": "0" * settings["cap"]}
    data = Dataset.from_list([{"messages": [*messages, filler]} for messages in settings["prompts"]])
    return IWOPDTrainer(student, teacher, args=config, train_dataset=data, processing_class=tokenizer)


TRAINERS = {"trl_gkd": gkd, "trl_distillation": distillation, "trl_iw_opd": iw_opd}


class SampledTokens:
    """Counts the tokens that the student samples, by wrapping its ``generate``."""

    def __init__(self, model):
        self.responses, self.prompts, self.sequences = 0, 0, 0
        self._generate = model.generate
        model.generate = self._counted

    def _counted(self, *args, **kwargs):
        found = self._generate(*args, **kwargs)
        sequences = getattr(found, "sequences", found)
        prompts = kwargs["attention_mask"]
        self.sequences += len(sequences)
        self.prompts += int(prompts.sum())
        self.responses += sequences.shape[0] * (sequences.shape[1] - prompts.shape[1])
        return found

    def take(self) -> tuple[int, float]:
        """Response tokens and mean prompt length since the last call."""
        taken = self.responses, self.prompts / max(1, self.sequences)
        self.responses = self.prompts = self.sequences = 0
        return taken


class StepClock(TrainerCallback):
    """Writes the seconds from the end of one step to the end of the next."""

    def __init__(self, sampled: SampledTokens, out: Path):
        self.sampled, self.file = sampled, out.open("w", buffering=1)

    def on_train_begin(self, args, state, control, **kwargs):
        self.last = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        now = time.perf_counter()
        tokens, prompt = self.sampled.take()
        line = {"step": state.global_step, "seconds": now - self.last, "tokens": tokens, "prompt": prompt}
        self.file.write(json.dumps(line) + "\n")
        self.last = now


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))

"""Settings of data preparation, validated before any data is read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from prefix_opd.base.errors import UserError, at_least
from prefix_opd.data.known import DOMAINS, KnownSet, lookup
from prefix_opd.method.prompt import Thinking

CHOICE_TEMPLATE = "{question}\n\n{options}\n\nAnswer with the letter of the correct option."
"""User message of a question with options, which are lines "A. …"; the paper does not give its own. A question without
options is the whole message, as in the paper."""
OVERLAP_SHARE = 0.5
"""A problem with at least this share of an evaluation question's 13-word runs is a duplicate. It is half, because a
single run is often a stock phrase of contests ("where m and n are relatively prime positive integers")."""

_NOT_PART_OF_THE_RESULT = ("out", "from_dir", "overwrite", "thinking")


@dataclass(frozen=True)
class PrepareSettings:
    dataset: str
    """Name of the data set, a key of ``KNOWN``."""
    out: Path | None = None
    """Folder to write to; None means ``data/<name>`` in the working folder."""
    from_dir: Path | None = None
    """Folder with the set's parquet, jsonl or csv files, or one such file; None reads from the hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None takes the default, ``KnownSet.revision``."""
    seed: int = 0
    """Seed for the sampling and for the order of GPQA's options."""
    count: int | None = None
    """Number of problems to sample; None takes the default, ``KnownSet.count``."""
    domains: tuple[str, ...] = ()
    """Domains of OpenThoughts3 to keep; empty keeps all, in their original proportions."""
    thinking: Thinking = "forced"
    """``prefix_opd.prompt.thinking`` of the run, for the number of prompt tokens. With "off", ``sft.parquet`` has the
    answers alone: the text after ``</think>``, without responses that never close their thinking."""
    responses_per_question: int = 0
    """Responses per question in ``sft.parquet`` for SeqKD; 0 writes no such file (OpenThoughts3 has 16).
    This needs a second pass over the source. From the hub that is another 28 GB, so prefer a local copy."""
    tokenizer: str | None = None
    """Folder or hub name of the tokenizer that counts prompt tokens; required with ``max_prompt_tokens``."""
    max_prompt_tokens: int | None = None
    """Limit in tokens, chat template included; longer prompts are reported. None: no limit, no counting."""
    drop_long: bool = False
    """Replace prompts longer than ``max_prompt_tokens`` instead of only reporting them."""
    decontaminate_against: tuple[Path, ...] = ()
    """Prepared evaluation parquet files; problems that duplicate their questions are reported."""
    drop_duplicates: bool = True
    """Replace such problems instead of only reporting them."""
    overwrite: bool = False
    """Overwrite another preparation in ``out``."""

    def __post_init__(self) -> None:
        known = self.known
        for name, least in (("count", 1), ("max_prompt_tokens", 1), ("seed", 0), ("responses_per_question", 0)):
            at_least(name, getattr(self, name), least)
        if self.revision is not None and self.from_dir is not None:
            raise UserError(f"revision={self.revision}", "is of the hub, and --from reads local files", "leave one out")
        if self.thinking not in get_args(Thinking):
            raise UserError(f"thinking={self.thinking}", f"must be one of {', '.join(get_args(Thinking))}")
        if known.layout != "questions":
            for name in ("domains", "responses_per_question"):
                if getattr(self, name):
                    raise UserError(f"{name}={getattr(self, name)}", f"{known.name} has none", "leave it out")
        for domain in self.domains:
            if domain not in DOMAINS:
                raise UserError(f"domain {domain!r}", "is not in OpenThoughts3", f"choose from {', '.join(DOMAINS)}")
        if (self.tokenizer is None) != (self.max_prompt_tokens is None):
            given = "tokenizer" if self.tokenizer is not None else "max_prompt_tokens"
            raise UserError(given, "is given alone", "give both tokenizer and max_prompt_tokens, or neither")
        if self.drop_long and self.max_prompt_tokens is None:
            raise UserError("drop_long=True", "needs a limit", "give tokenizer and max_prompt_tokens as well")

    @property
    def known(self) -> KnownSet:
        return lookup(self.dataset)

    @property
    def folder(self) -> Path:
        return Path("data", self.known.name) if self.out is None else Path(self.out)

    @property
    def problems(self) -> int | None:
        """Problems to take; None for all."""
        return self.known.count if self.count is None else self.count

    def recorded(self) -> dict[str, Any]:
        """The settings that determine the result, for the manifest. No local paths, so that copies compare equal."""
        kept = {key: value for key, value in asdict(self).items() if key not in _NOT_PART_OF_THE_RESULT}
        mode = {} if self.thinking == "forced" else {"thinking": self.thinking}
        return (
            kept
            | mode
            | {
                "dataset": self.known.name,
                "question_template": "{question}",
                "choice_template": CHOICE_TEMPLATE,
                "overlap_share": OVERLAP_SHARE,
                "count": self.problems,
                "revision": None if self.from_dir is not None else self.revision or self.known.revision,
                "domains": sorted(set(self.domains)),
                "tokenizer": None if self.tokenizer is None else Path(self.tokenizer).name,
                "decontaminate_against": [Path(path).name for path in self.decontaminate_against],
            }
        )

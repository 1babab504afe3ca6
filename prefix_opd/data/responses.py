"""The second pass, for SeqKD: write the kept responses of the selected questions."""

from __future__ import annotations

from tqdm import tqdm

from prefix_opd.data.files import RowWriter
from prefix_opd.data.layouts import ANSWERER, ASKER, turn
from prefix_opd.data.rows import sft_row
from prefix_opd.data.sampling import key_of
from prefix_opd.data.selection import Selection
from prefix_opd.data.settings import PrepareSettings
from prefix_opd.data.source import Source
from prefix_opd.method.prompt import THINK_END


def write_responses(settings: PrepareSettings, source: Source, selection: Selection, writer: RowWriter) -> None:
    """Writes each kept response once, in the order of the source.

    The first pass keeps only the keys of responses, because 30 700 questions with 16 responses are some 12 GB. The
    source's order determines the order of the rows, but not which responses are kept.
    """
    waiting = {key: {key for key, _ in chosen.responses.items()} for key, chosen in selection.chosen.items()}
    bar = tqdm(source.rows(), "responses", source.total, unit=" rows", disable=None if settings.progress else True)
    for row in bar:
        question = turn(row, ASKER)
        kept = waiting.get(key_of(settings.seed, question))
        if not kept:
            continue
        response = turn(row, ANSWERER)
        key = key_of(settings.seed, question, response)
        if key in kept:
            kept.remove(key)
            if settings.thinking == "off":
                _, closed, answer = response.rpartition(THINK_END)
                response = answer.strip() if closed else ""
            if response:  # one that never closes its thinking has no answer
                writer.add(sft_row(question, response, settings))

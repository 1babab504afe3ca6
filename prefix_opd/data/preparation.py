"""``prefix-opd prepare``: from a data set to verl's parquet files and their manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import whole_files
from prefix_opd.data.layouts import ANSWERER, ASKER, turn
from prefix_opd.data.manifest import MANIFEST, PARQUETS, as_text, check_folder
from prefix_opd.data.rows import RL_SCHEMA, SFT_SCHEMA, RowWriter, rl_row, sft_row
from prefix_opd.data.sampling import key_of
from prefix_opd.data.screen import Screen
from prefix_opd.data.selection import Selection, select
from prefix_opd.data.settings import PrepareSettings
from prefix_opd.data.source import Source, open_source
from prefix_opd.method.prompt import THINK_END


def prepare(settings: PrepareSettings) -> dict[str, Any]:
    """Prepares one data set. Bad input raises ``UserError`` before a file is written.

    Writes ``train.parquet`` or ``test.parquet`` (verl's RL layout), ``sft.parquet`` (verl's SFT layout) if
    responses are requested, and the returned ``manifest.json``. The same settings and source give the same bytes.
    """
    check_folder(settings)
    screen = Screen(settings)
    source = open_source(settings)
    selection = select(settings, source, screen)
    try:
        return _write(settings, source, selection, screen)
    except OSError as error:
        raise UserError(f"--out {settings.folder}", f"cannot be written ({error})", "choose another folder") from error


def _write(settings: PrepareSettings, source: Source, selection: Selection, screen: Screen) -> dict[str, Any]:
    known, files = settings.known, {}
    with whole_files(settings.folder) as place:
        main = f"{known.purpose}.parquet"
        writer = RowWriter(place(main), RL_SCHEMA)
        for position, chosen in enumerate(selection.chosen.values()):
            # The source has 16 rows per question, so the index is the position in this file.
            index = position if known.layout == "questions" else chosen.problem.index
            writer.add(rl_row(known, chosen.problem, index))
        files[main] = writer.close()
        if settings.responses_per_question:
            files["sft.parquet"] = _write_responses(settings, source, selection, place("sft.parquet"))
        manifest = {
            "dataset": known.name,
            "seed": settings.seed,
            "source": source.described(),
            "counts": selection.counts(screen),
            "files": files,
            "settings": settings.recorded(),
            "writer": f"pyarrow {pa.__version__}",
        }
        # Last: the manifest marks the other files as complete.
        place(MANIFEST).write_text(as_text(manifest), encoding="utf-8")
    for stale in set(PARQUETS) - set(files):
        (settings.folder / stale).unlink(missing_ok=True)
    return manifest


def _write_responses(settings: PrepareSettings, source: Source, selection: Selection, path: Path) -> dict[str, Any]:
    """Write each kept response once, in the order of the source, in a second pass, for SeqKD.

    The first pass keeps only the keys of responses, because 30 700 questions with 16 responses are some 12 GB. The
    source's order determines the order of the rows, but not which responses are kept.
    """
    writer = RowWriter(path, SFT_SCHEMA)
    waiting = {question: {key for key, _ in one.responses.items()} for question, one in selection.chosen.items()}
    bar = tqdm(source.rows(), "responses", source.total, unit=" rows", disable=None)
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
                writer.add(sft_row(question, response))
    return writer.close()

"""``prefix-opd prepare``: from a data set to verl's parquet files and their manifest."""

from __future__ import annotations

import pyarrow as pa

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import whole_files
from prefix_opd.data.files import FileRecord, RowWriter
from prefix_opd.data.manifest import MANIFEST, PARQUETS, Manifest, check_folder
from prefix_opd.data.responses import write_responses
from prefix_opd.data.rows import RL_SCHEMA, SFT_SCHEMA, rl_row
from prefix_opd.data.screen import Screen
from prefix_opd.data.selection import Selection, select
from prefix_opd.data.settings import PrepareSettings
from prefix_opd.data.source import Source, open_source


def prepare(settings: PrepareSettings) -> Manifest:
    """Prepares one data set. Bad input raises ``UserError`` before a file is written.

    Writes ``train.parquet`` or ``test.parquet`` (verl's RL layout), ``sft.parquet`` (verl's SFT layout) if
    responses are requested, and ``manifest.json``. The same settings and source give the same bytes.

    Args:
        settings: what to prepare, and the output folder.

    Returns:
        The written manifest.
    """
    check_folder(settings)
    screen = Screen(settings)
    source = open_source(settings)
    selection = select(settings, source, screen)
    try:
        return _write(settings, source, selection, screen)
    except OSError as error:
        raise UserError(f"--out {settings.folder}", f"cannot be written ({error})", "choose another folder") from error


def _write(settings: PrepareSettings, source: Source, selection: Selection, screen: Screen) -> Manifest:
    known, files = settings.known, {}
    with whole_files(settings.folder) as place:
        main = f"{known.purpose}.parquet"
        writer = RowWriter(place(main), RL_SCHEMA)
        for position, chosen in enumerate(selection.chosen.values()):
            # The source has 16 rows per question, so the index is the position in this file.
            index = position if known.layout == "questions" else chosen.problem.index
            writer.add(rl_row(known, chosen.problem, index, settings))
        files[main] = writer.close()
        if settings.responses_per_question:
            files["sft.parquet"] = _write_sft(settings, source, selection, RowWriter(place("sft.parquet"), SFT_SCHEMA))
        manifest = Manifest(
            dataset=known.name,
            seed=settings.seed,
            source=source.described(),
            counts=selection.counts(screen),
            files=files,
            settings=settings.recorded(),
            writer=f"pyarrow {pa.__version__}",
        )
        # Last: the manifest marks the other files as complete.
        place(MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    for stale in set(PARQUETS) - set(files):
        (settings.folder / stale).unlink(missing_ok=True)
    return manifest


def _write_sft(settings: PrepareSettings, source: Source, selection: Selection, writer: RowWriter) -> FileRecord:
    write_responses(settings, source, selection, writer)
    return writer.close()

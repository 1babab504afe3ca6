"""The data files of a run: their paths, their conversations, and whether verl can train on them.

A UserError names the file, and the row or the column with its type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.checks.json_lines import LINES, read_lines, schema_of_lines
from prefix_opd.config.keys import GRADER_KEY, TRAIN_KEY, VAL_KEY
from prefix_opd.config.teachers import ROUTED_BY
from prefix_opd.grading.choice import LETTERS
from prefix_opd.grading.reward import kind_of

KINDS = (".parquet", *LINES)
TAKEN = (
    *("raw_prompt", "dummy_tensor", "index", "tools_kwargs", "interaction_kwargs"),  # of the data set
    *("uid", "global_steps", "validate", "agent_name", "__rollout_n__", "__do_sample__"),  # of a batch
    *("session_id", "sampling_params", "trajectory", "trace", "output", "self"),  # arguments of the agent loop
    *("prompts", "responses", "response_mask", "rollout_log_probs", "routed_experts", "rm_scores"),  # of a rollout
    *("teacher_ids", "teacher_logprobs", "num_turns", "metrics", "extra_fields", "multi_modal_data"),
    *("mm_processor_kwargs", "mm_processor_output", "loss_mask", "input_ids", "position_ids", "multi_modal_inputs"),
    *("log_probs", "old_log_probs", "ref_log_prob", "entropy", "values", "advantages", "returns"),  # of an update
    *("token_level_rewards", "prefix_length", "prefix_opd_copy", "prefix_opd_probe", "prefix_opd_attempt"),
)
"""Names that verl or the trainer gives to a row: a column of such a name is lost, or takes the other's place."""
MEDIA = ("images", "videos", "audios")
PATTERNS = ("*", "?", "[", "::")
"""What makes a path a pattern or a chain of file systems for ``datasets`` (fsspec: has_magic, url_to_fs)."""
SEE = "see `prefix-opd prepare --help`, or docs/smollm2.md for smollm2"

Conversation = list[dict[str, Any]]


def data_files(config: DictConfig, key: str) -> list[Path]:
    """The files of a config key. Raises UserError if the list is empty or a file does not exist."""
    named = OmegaConf.select(config, key)
    if named is None:
        raise UserError(key, "is not set", f"add {key}=FILE.parquet, {SEE}")
    names = list(named) if isinstance(named, ListConfig) else [named]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{key}={named}", "must be a file or a list of files", f"use {key}=FILE.parquet, {SEE}")
    paths = [Path(name).expanduser() for name in names]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{key}={path}", "is a folder; name its files" if path.is_dir() else "does not exist", SEE)
        if path.suffix not in KINDS:
            raise UserError(f"{key}={path}", f"has none of the endings that verl reads: {', '.join(KINDS)}", SEE)
        check_path(f"{key}={path}", path)
    return paths


def check_path(what: str, path: Path) -> None:
    """Reject a path that verl's reader would take for a pattern: it finds other files, or none. Raises UserError."""
    if found := next((one for one in PATTERNS if one in str(path.absolute())), None):
        raise UserError(
            what, f"has {found} in its path, which datasets reads as a pattern", "rename the file or folder"
        )


def check_data(config: DictConfig, key: str) -> int:
    """Check every row, because verl would fail on a bad one only after minutes. Returns the number of rows."""
    paths, needed = data_files(config, key), [config.data.prompt_key, ROUTED_BY, "reward_model"]
    rows, schemas = 0, []
    for path in paths:
        what = f"{key}={path}"
        rows += check_rows(what, read_rows(what, path, needed), needed)
        schemas.append(_schema(what, path))
    for path, schema in zip(paths, schemas, strict=True):
        what = f"{key}={path}"
        check_columns(what, schema, validated=key == VAL_KEY)
        check_text_alone(what, path, schema)
        if key == VAL_KEY:
            check_graded(config, what, path, schema)
    _check_alike(key, paths, schemas)
    if key == TRAIN_KEY and rows < (batch := config.data.train_batch_size):
        raise UserError(f"data.train_batch_size={batch}", f"exceeds the {rows} rows of {key}")
    return rows


def conversations(config: DictConfig, key: str) -> list[Conversation]:
    """The conversations of all rows, checked by `check_data`."""
    check_data(config, key)
    return _column(config, key, config.data.prompt_key)


def sources(config: DictConfig) -> Counter[str]:
    """``data_source`` of the training rows -> number of rows."""
    return Counter(map(str, _column(config, TRAIN_KEY, ROUTED_BY)))


def rewards(config: DictConfig) -> list[dict[str, Any]]:
    """``reward_model`` of the validation rows."""
    return _column(config, VAL_KEY, "reward_model")


def _column(config: DictConfig, key: str, name: str) -> list[Any]:
    return [row[name] for path in data_files(config, key) for row in read_rows(f"{key}={path}", path, [name])]


def read_rows(what: str, path: Path, columns: list[str], also: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Every row with these columns, and those of ``also`` that the file has; null where a line lacks one.

    Raises UserError if the whole file lacks one of ``columns``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix in LINES:
        rows = read_lines(what, path)
        if rows:
            _check_names(what, columns, [name for row in rows for name in row])
        yield from ({name: row.get(name) for name in (*columns, *also)} for row in rows)
        return
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError):
        raise UserError(what, "is not a parquet file", SEE) from None
    _check_names(what, columns, file.schema_arrow.names)
    try:
        wanted = [*columns, *(name for name in also if name in file.schema_arrow.names)]
        for batch in file.iter_batches(columns=wanted):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError):
        raise UserError(what, f"one of its columns {', '.join(columns)} cannot be read", SEE) from None


def _check_names(what: str, needed: list[str], names: list[str]) -> None:
    if missing := next((name for name in needed if name not in names), None):
        rule = f"lacks the column {missing!r} (it has {', '.join(map(str, dict.fromkeys(names)))})"
        raise UserError(what, rule, f"rename its own, {SEE}")


def check_rows(what: str, rows: Iterable[dict[str, Any]], needed: list[str]) -> int:
    """Check that no needed column is null and that the first one holds text conversations. Returns their number."""
    number = -1
    for number, row in enumerate(rows):
        for name in needed:
            if row[name] is None:
                raise UserError(what, f"row {number}, column {name!r}: is null", "fill it in, or drop the row")
        if problem := problem_of(row[needed[0]]):
            fix = 'write [{"role": "user", "content": QUESTION}]'
            raise UserError(what, f"row {number}, column {needed[0]!r}: {problem}", fix)
    if number < 0:
        raise UserError(what, "has no rows", SEE)
    return number + 1


def _schema(what: str, path: Path):
    """The columns and their types. Raises UserError if the types in a column conflict."""
    import pyarrow.parquet as pq

    return schema_of_lines(what, path) if path.suffix in LINES else pq.read_schema(path)


def check_columns(what: str, schema, validated: bool) -> None:
    """Check the columns that verl and the grader read."""
    import pyarrow as pa

    kinds = {field.name: field.type for field in schema}
    if len(kinds) < len(schema):
        twice = next(name for name in kinds if schema.names.count(name) > 1)
        raise UserError(what, f"has several columns {twice!r}", "rename all but one")
    source, reward, extra = (kinds.get(name) for name in (ROUTED_BY, "reward_model", "extra_info"))
    coded = source.value_type if pa.types.is_dictionary(source) else source  # pandas calls it categorical
    if not any(is_text(coded) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)):
        raise UserError(what, f"its column {ROUTED_BY!r} is {source}, not text", "write the name of the data set")
    if not pa.types.is_struct(reward):
        rule = f"its column 'reward_model' is {reward}, not a group with ground_truth"
        raise UserError(what, rule, 'write {"style": "rule", "ground_truth": ANSWER} in each row, not as text')
    if validated and "ground_truth" not in (fields := _fields(reward)):
        rule = f"its column 'reward_model' lacks ground_truth (it has {', '.join(fields)})"
        raise UserError(what, rule, "rename the answer's")
    if not (extra is None or pa.types.is_struct(extra) or pa.types.is_null(extra)):
        raise UserError(what, f"its column 'extra_info' is {extra}, not a group of values", "leave the column out")
    if mapped := next((name for name, kind in kinds.items() if "map<" in str(kind)), None):
        raise UserError(what, f"its column {mapped!r} is {kinds[mapped]}, which datasets does not read", "drop it")
    if validated and not _is_json(truth := reward.field("ground_truth").type):
        rule = f"its reward_model.ground_truth is {truth}, which verl does not write beside the answers"
        raise UserError(what, rule, "write the answer as text or a number")
    if taken := next((name for name in TAKEN if name in kinds), None):
        raise UserError(what, f"has a column {taken!r}, which verl sets itself", "rename it")
    if b"huggingface" in (schema.metadata or {}):
        import datasets

        try:
            datasets.Features.from_arrow_schema(schema)
        except Exception as error:  # of another version of datasets, or damaged
            rule = f"datasets does not read the types that its metadata names ({one_line(error)})"
            raise UserError(what, rule, "write it again without them: schema.remove_metadata() of pyarrow") from None


def _is_json(kind) -> bool:
    """Whether ``json.dumps`` takes the values of a type, as verl writes true answers into its file of answers."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return all(_is_json(field.type) for field in kind)
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return _is_json(kind.value_type)
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    others = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    return any(is_one(kind) for is_one in (*strings, *others))


def check_text_alone(what: str, path: Path, schema) -> None:
    """Reject rows with images, videos or sounds. Columns that are empty in every row pass, as in verl."""
    for name in [name for name in MEDIA if name in schema.names]:
        if any(row[name] for row in read_rows(what, path, [name])):
            raise UserError(what, f"has {name}, but models read only text here", f"drop the column {name!r}")


def check_graded(config: DictConfig, what: str, path: Path, schema) -> None:
    """Check the types and the choices that this package's grader takes; a grader of the user's may take others."""
    import pyarrow as pa

    if not is_graded_by_us(config):
        return
    if pa.types.is_nested(truth := schema.field("reward_model").type.field("ground_truth").type):
        rule, fix = f"its reward_model.ground_truth is {truth}", "write the answer as text or a number"
        raise UserError(what, rule, f"{fix}, or set {GRADER_KEY} to a grader of yours")
    extra = schema.field("extra_info").type if "extra_info" in schema.names else pa.null()
    options = extra.field("n_options").type if pa.types.is_struct(extra) and "n_options" in _fields(extra) else None
    if options is not None and not (pa.types.is_integer(options) or pa.types.is_null(options)):
        raise UserError(what, f"its extra_info.n_options is {options}", "write a whole number, or leave it out")
    for number, row in enumerate(read_rows(what, path, [ROUTED_BY, "reward_model"], ["extra_info"])):
        given = (row.get("extra_info") or {}).get("n_options") or 0
        if kind_of(row[ROUTED_BY], given) == "choice" and (wrong := _wrong_choice(row["reward_model"], given)):
            raise UserError(what, f"row {number}, {wrong[0]}", wrong[1])


def _wrong_choice(reward: dict[str, Any], given: int) -> tuple[str, str] | None:
    """What is wrong with a row of multiple choice, and how to mend it. A row without a truth is not graded."""
    if given and not 2 <= given <= len(LETTERS):
        rule = f"extra_info.n_options={given}: a question of multiple choice has 2 to {len(LETTERS)} options"
        return rule, "write their number, or leave it out"
    truth, letters = reward["ground_truth"], LETTERS[: given or None]
    truth = "" if truth is None else str(truth).strip()
    if truth and (len(truth) != 1 or truth not in letters):
        rule = f"reward_model.ground_truth={truth!r}: must be a letter from A to {letters[-1]} for multiple choice"
        return rule, "write the letter of the right option"
    return None


def is_graded_by_us(config: DictConfig) -> bool:
    """Whether validation answers go to `prefix_opd.grading`."""
    return str(OmegaConf.select(config, GRADER_KEY)).startswith("pkg://prefix_opd.")


def _fields(struct) -> list[str]:
    return [field.name for field in struct]


def _check_alike(key: str, paths: Sequence[Path], schemas: Sequence) -> None:
    """verl joins the files of one key by ``datasets.concatenate_datasets``, which requires equal types."""
    import datasets

    features = [datasets.Features.from_arrow_schema(schema) for schema in schemas]
    for name in {name: None for one in features for name in one}:
        having = [(place, datasets.Features({name: one[name]})) for place, one in enumerate(features) if name in one]
        for end, (place, types) in enumerate(having):
            if _can_join([one for _, one in having[: end + 1]]):
                continue
            before = next((one for one, theirs in having[:end] if not _can_join([theirs, types])), having[0][0])
            first, other = (schemas[number].field(name).type for number in (before, place))
            rule = f"cannot be put together with {paths[before]}: its column {name!r} is {other}, there {first}"
            raise UserError(f"{key}={paths[place]}", rule, "write both with the same types")


def _can_join(features: list) -> bool:
    from datasets.features import features as of_datasets

    try:
        of_datasets._check_if_features_can_be_aligned(features)
        of_datasets._align_features(features)
    except (ValueError, AttributeError):  # the latter of a group after a column of nulls
        return False
    return True


def problem_of(messages: Any) -> str:
    """Why a cell is not a conversation; empty if it is one."""
    if not isinstance(messages, list):
        return f"must be a list of role and content, not {type(messages).__name__}"
    if not messages:
        return "must be a list of role and content, with at least one message"
    for message in messages:
        if not isinstance(message, dict):
            return f"must be a list of role and content, not of {type(message).__name__}"
        for part in ("role", "content"):
            if not isinstance(message.get(part), str):
                return f"its {part} must be text, not {type(message.get(part)).__name__}"
    return ""

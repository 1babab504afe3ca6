"""A checkpoint is whole or does not count; which of them stay."""

import json
import zlib

import pytest
import torch
from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.base.files import write_whole
from prefix_opd.config.settings import CheckpointSettings
from prefix_opd.run import checkpoints
from prefix_opd.run.checkpoints import (
    BLOCK_BYTES,
    LATEST_FILE,
    LEDGER_FILE,
    MANIFEST_FILE,
    damage,
    data_fingerprint,
    newest_whole,
    prune,
    saved,
    set_aside,
    settle_resume,
    superfluous,
    write_manifest,
)
from prefix_opd.run.ledger import accuracies


def save(run, step, manifest=True):
    """Write a checkpoint as verl does, with tensors saved by torch."""
    folder = run / f"global_step_{step}"
    (folder / "actor" / "huggingface").mkdir(parents=True)
    for name in ("model", "optim", "extra_state"):
        torch.save({"weight": torch.randn(1000)}, folder / "actor" / f"{name}_world_size_1_rank_0.pt")
    (folder / "actor" / "huggingface" / "config.json").write_text("{}")
    torch.save({"position": step}, folder / "data.pt")
    if manifest:
        write_manifest(folder)
    (run / LATEST_FILE).write_text(str(step))
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def config(run, **trainer):
    one = {"n_gpus_per_node": 1, "nnodes": 1}
    return OmegaConf.create({"trainer": {"default_local_dir": str(run), "resume_mode": "auto", **one, **trainer}})


def test_a_whole_one_is_gone_on_from(tmp_path):
    save(tmp_path, 2)
    newest = save(tmp_path, 4)
    assert damage(newest) is None and newest_whole(tmp_path) == newest
    asked = config(tmp_path)
    assert settle_resume(asked) == newest
    assert (asked.trainer.resume_mode, asked.trainer.resume_from_path) == ("resume_path", str(newest))


def test_a_run_without_checkpoints_begins_anew(tmp_path):
    asked = config(tmp_path)
    assert settle_resume(asked) is None and asked.trainer.resume_mode == "auto"


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda actor: cut(actor / "optim_world_size_1_rank_0.pt"), "optim_world_size_1_rank_0.pt"),
        (lambda actor: (actor / "model_world_size_1_rank_0.pt").unlink(), "model"),
    ],
    ids=["truncated", "removed"],
)
def test_the_one_before_a_damaged_one_is_used_and_it_is_told(tmp_path, caplog, manifest, harm, told):
    caplog.set_level("WARNING", logger="prefix_opd")
    before = save(tmp_path, 2, manifest)
    newest = save(tmp_path, 4, manifest)
    harm(newest / "actor")
    assert newest_whole(tmp_path) == before
    assert "global_step_4 is damaged" in caplog.text and told in caplog.text


def test_other_content_of_the_same_size_is_damage(tmp_path):
    path = save(tmp_path, 2) / "actor" / "model_world_size_1_rank_0.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "has changed" in damage(tmp_path / "global_step_2")


@pytest.mark.parametrize("block", [0, 15, 21, 39])
def test_a_hole_in_a_large_file_is_found(tmp_path, block):
    """In 40 MiB, 16 blocks of 1 MiB start at 0, 2.6, 5.2, ... 39 MiB, so a hole of 4 MiB overlaps one of them."""
    large = tmp_path / "model.pt"
    large.write_bytes(b"w" * 40 * BLOCK_BYTES)
    write_manifest(tmp_path)
    assert damage(tmp_path) is None
    with large.open("r+b") as file:
        file.seek(block * BLOCK_BYTES)
        file.write(bytes(min(4, 40 - block) * BLOCK_BYTES))
    assert damage(tmp_path) == "the content of model.pt has changed"


def test_a_manifest_of_an_older_version_is_understood(tmp_path):
    content = b"a" * BLOCK_BYTES + b"b" * BLOCK_BYTES + b"c" * BLOCK_BYTES
    (tmp_path / "model.pt").write_bytes(content)
    ends = zlib.crc32(content[:BLOCK_BYTES] + content[-BLOCK_BYTES:])
    (tmp_path / MANIFEST_FILE).write_text(json.dumps({"model.pt": [len(content), ends]}))
    assert damage(tmp_path) is None
    (tmp_path / "model.pt").write_bytes(content[:-1] + b"d")
    assert "has changed" in damage(tmp_path)


def test_the_files_reach_the_disk_before_their_manifest(tmp_path, monkeypatch):
    folder = save(tmp_path, 2, manifest=False)
    reached = []
    monkeypatch.setattr(
        checkpoints, "onto_disk", lambda path: reached.append((path, (folder / MANIFEST_FILE).exists()))
    )
    write_manifest(folder)
    before = {path for path, manifest in reached if not manifest}
    assert {path for path in folder.rglob("*") if path.name not in (MANIFEST_FILE, "huggingface")} <= before
    assert {folder, folder / "actor" / "huggingface", tmp_path} <= before


def test_a_checkpoint_that_was_being_written_is_none(tmp_path):
    whole = save(tmp_path, 2)
    save(tmp_path, 4, manifest=False)
    (tmp_path / LATEST_FILE).write_text("2")
    assert list(saved(tmp_path)) == [2] and newest_whole(tmp_path) == whole


def test_a_torn_pointer_of_verls_does_no_harm(tmp_path):
    whole = save(tmp_path, 2)
    (tmp_path / LATEST_FILE).write_text("")  # killed between opening and writing it
    assert newest_whole(tmp_path) == whole


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(tmp_path):
    cut(save(tmp_path, 2) / "data.pt")
    with pytest.raises(UserError, match=r"all 1 checkpoints are damaged .*data.pt has"):
        newest_whole(tmp_path)


def test_a_damaged_one_that_was_asked_for_is_refused(tmp_path):
    folder = save(tmp_path, 2)
    cut(folder / "data.pt")
    with pytest.raises(UserError, match="is damaged: data.pt"):
        settle_resume(config(tmp_path, resume_mode="resume_path", resume_from_path=str(folder)))


def test_a_checkpoint_is_refused_on_another_number_of_ranks(tmp_path):
    folder = save(tmp_path, 2)  # of one rank
    named = {"resume_mode": "resume_path", "resume_from_path": str(folder)}
    for more in ({"n_gpus_per_node": 2}, {"nnodes": 2, **named}):
        with pytest.raises(UserError, match="x nnodes=2: must be 1, the number of ranks that wrote global_step_2"):
            settle_resume(config(tmp_path, **more))


def test_a_checkpoint_from_elsewhere_is_loaded_only_when_it_is_allowed(tmp_path):
    folder = save(tmp_path / "other", 2)
    (tmp_path / "run").mkdir()
    asked = config(tmp_path / "run", resume_mode="resume_path", resume_from_path=str(folder))
    with pytest.raises(UserError, match="is outside the run's folder .*prefix_opd.checkpoint.allow_foreign=true"):
        settle_resume(asked)
    asked.trainer.resume_from_path = str(tmp_path / "run" / ".." / "other" / "global_step_2")
    with pytest.raises(UserError, match="is outside the run's folder"):
        settle_resume(asked)
    asked.prefix_opd = {"checkpoint": {"allow_foreign": True}}
    assert settle_resume(asked) is not None


def test_a_validation_that_lacks_answers_is_no_best(tmp_path):
    lines = [
        {"step": 1, "val-core/x/reward/mean@1": 0.9, "prefix_opd/watch/validation_missing": 3},
        {"step": 2, "val-core/x/reward/mean@1": 0.5, "prefix_opd/watch/validation_missing": 0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert accuracies(tmp_path) == {2: 0.5}


def test_a_file_is_written_whole_and_leaves_no_draft(tmp_path):
    write_whole(tmp_path / "ledger.json", "one")
    write_whole(tmp_path / "ledger.json", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.json"]
    assert (tmp_path / "ledger.json").read_text() == "two"


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "gone"),
    [
        (None, True, []),
        (1, True, [10, 30]),
        (1, False, [10, 20, 30]),
        (2, True, [10]),
        (9, True, []),
    ],
)
def test_the_newest_and_the_best_stay(keep_last, keep_best, gone):
    # step 40 is not validated yet; 20 and 30 are equally good
    accuracy = {10: 0.2, 20: 0.5, 30: 0.5}
    settings = CheckpointSettings(keep_last=keep_last, keep_best=keep_best)
    assert superfluous([10, 20, 30, 40], accuracy, settings) == gone


def test_pruning_removes_folders_and_what_a_kill_left_of_them(tmp_path):
    for step in (10, 20, 30):
        save(tmp_path, step)
    (tmp_path / ".removed_global_step_5").mkdir()
    lines = [{"step": step, "val-core/x/reward/mean@1": value} for step, value in ((10, 0.4), (20, 0.1), (30, 0.3))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert accuracies(tmp_path) == {10: 0.4, 20: 0.1, 30: 0.3}
    prune(tmp_path, CheckpointSettings(keep_last=1), step=30)
    assert list(saved(tmp_path)) == [10, 30]
    assert not list(tmp_path.glob(".removed*"))
    assert (tmp_path / "global_step_10" / MANIFEST_FILE).exists()


def test_the_checkpoints_of_a_run_that_was_given_up_do_not_push_out_this_ones(tmp_path):
    """Steps 20 and 30 are of the abandoned run; the restarted run has just saved step 10."""
    for step in (10, 20, 30):
        save(tmp_path, step)
    prune(tmp_path, CheckpointSettings(keep_last=1), step=10)
    assert list(saved(tmp_path)) == [10, 20, 30]


def test_later_checkpoints_stand_aside_when_a_run_begins_from_an_earlier_step(tmp_path, caplog):
    caplog.set_level("WARNING", logger="prefix_opd")
    for step in (10, 20, 30):
        save(tmp_path, step)
    place = set_aside(tmp_path, 10)
    assert newest_whole(tmp_path) == tmp_path / "global_step_10"
    assert sorted(path.name for path in place.iterdir()) == ["global_step_20", "global_step_30"]
    assert damage(place / "global_step_30") is None
    assert "starts from step 10: checkpoints of later steps (global_step_20, global_step_30)" in caplog.text
    assert set_aside(tmp_path, 10) is None


def test_a_damaged_later_one_is_left_to_be_written_over(tmp_path):
    save(tmp_path, 10)
    cut(save(tmp_path, 20) / "data.pt")
    assert set_aside(tmp_path, 10) is None and (tmp_path / "global_step_20").exists()


def test_a_training_file_that_was_replaced_is_refused_and_the_same_one_is_not(tmp_path):
    data, run = tmp_path / "train.parquet", tmp_path / "run"
    data.write_bytes(b"first")
    asked = config(run, resume_from_path=None)
    asked.data = {"train_files": [str(data)]}
    save(run, 2, manifest=False)
    write_whole(run / "global_step_2" / LEDGER_FILE, json.dumps({"data": data_fingerprint(asked)}))
    write_manifest(run / "global_step_2")
    assert settle_resume(asked.copy()) == run / "global_step_2"
    data.write_bytes(b"other")
    with pytest.raises(UserError, match=r"train.parquet'\]: has changed since global_step_2 was written"):
        settle_resume(asked)
    write_whole(run / "global_step_2" / LEDGER_FILE, json.dumps({"flops": {}}))  # of an earlier version
    write_manifest(run / "global_step_2")
    assert settle_resume(asked) == run / "global_step_2"

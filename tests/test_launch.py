"""What passes the checks before a run, and a release of verl that does not."""

import pytest
from omegaconf import OmegaConf

from prefix_opd import cli
from prefix_opd.checks import preflight
from prefix_opd.launch import prepare


def test_no_folder_for_validation_answers_is_verls_own_default():
    config = prepare(["experiment=tiny/schedule", "trainer.validation_data_dir=null"])
    assert config.trainer.validation_data_dir is None


def test_a_prepared_config_says_all_by_itself():
    """Ray's processes resolve the config again, without our resolvers."""
    config = prepare(["experiment=tiny/schedule", "actor_rollout_ref.rollout.max_model_len=null"])
    assert "${" not in OmegaConf.to_yaml(config, resolve=False)


def test_what_is_right_passes(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prefix-opd", "train", "--check", "experiment=tiny/schedule"])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 0 and "nothing wrong found" in capsys.readouterr().out
    monkeypatch.setattr(
        "sys.argv",
        [
            "prefix-opd",
            "train",
            "--check",
            "experiment=tiny/full",
            "actor_rollout_ref.rollout.temperature=0.7",
            "prefix_opd.allow_any_temperature=true",
        ],
    )
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 0


def test_another_verl_is_refused(monkeypatch):
    monkeypatch.setattr(preflight.importlib.metadata, "version", lambda name: "0.8.0")
    with pytest.raises(Exception, match=r"verl==0.8.0: prefix-opd extends 0.9.1; pip install verl==0.9.1"):
        preflight.check_verl_version()


def test_help_is_no_mistake(monkeypatch, capsys):
    for arguments in (["--help"], ["report", "--help"]):
        monkeypatch.setattr("sys.argv", ["prefix-opd", *arguments])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        assert not leaving.value.code and "Usage: prefix-opd" in capsys.readouterr().out

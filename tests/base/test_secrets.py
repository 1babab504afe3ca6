"""No secret is printed, saved or shown."""

import json

import pytest
from omegaconf import OmegaConf

from prefix_opd.base.errors import UserError
from prefix_opd.base.redaction import (
    HIDDEN,
    check_no_secrets,
    command_without_secrets,
    is_secret_name,
    redact,
    save_config,
    without_secrets,
)
from prefix_opd.config.compose import compose

SECRET = "0123456789abcdef-of-nobody"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("WANDB_API_KEY", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("password", True),
        ("max_num_batched_tokens", False),
        ("tokenizer", False),
        ("eos_token", False),
        ("prompt_key", False),
        ("stop_token_ids", False),
        ("teacher_key", False),
    ],
)
def test_secrets_are_told_by_their_names(name, secret):
    assert is_secret_name(name) is secret


def test_no_key_of_verls_is_taken_for_a_secret():
    for kind in ("tiny/schedule", "qwen3_8b/schedule"):
        check_no_secrets(compose([f"experiment={kind}"]))


def test_a_secret_in_an_override_is_refused_and_not_repeated():
    override = f"+ray_kwargs.ray_init.runtime_env.env_vars.WANDB_API_KEY={SECRET}"
    with pytest.raises(UserError, match=r"env_vars.WANDB_API_KEY: is a secret.*export WANDB_API_KEY instead") as told:
        compose(["experiment=tiny/schedule", override])
    assert SECRET not in str(told.value)


def test_a_runs_config_holds_no_secret_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("MY_TOKEN", "true")  # too short to be one, and a word of every config
    config = compose(["experiment=tiny/schedule"])
    config.trainer.project_name = f"by-{SECRET}"  # as a program may; an override is refused
    save_config(config, tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    assert SECRET not in text and f"project_name: by-{HIDDEN}" in text
    saved = OmegaConf.load(tmp_path / "config.yaml")
    assert saved.trainer.critic_warmup == config.trainer.critic_warmup and saved.data.return_raw_chat is True


@pytest.mark.parametrize("value", ["hf_" + "a" * 34, "sk-" + "b" * 30, SECRET, "'${oc.env:HF_TOKEN}'"])
def test_a_secret_under_an_innocent_key_is_refused(value, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with pytest.raises(UserError, match=r"project_name: holds a secret") as told:
        compose(["experiment=tiny/schedule", f"trainer.project_name={value}"])
    assert value not in str(told.value) and SECRET not in str(told.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:hunter2@mirror.example/x", "https://***@mirror.example/x"),
        ("redis://:hunter2@cache:6379/0", "redis://***@cache:6379/0"),
        ("http://me:p@ss:word@proxy:80", "http://***@proxy:80"),
        ("https://0123456789abcdef@github.com/me/x.git", "https://***@github.com/me/x.git"),
        ("s3://bucket/x?X-Amz-Signature=abc&page=2", "s3://bucket/x?X-Amz-Signature=***&page=2"),
        ("https://host/x?a=1&api_key=abc#top", "https://host/x?a=1&api_key=***#top"),
        ("Authorization: Bearer abcdefghijklmnopqrst", "Authorization: Bearer ***"),
        ("AKIAABCDEFGHIJKLMNOP", "***"),
        ("ssh://git@github.com/me/x.git", "ssh://git@github.com/me/x.git"),
        ("file:///data/a@b/c.parquet", "file:///data/a@b/c.parquet"),
        ("pkg://prefix_opd.grading.reward", "pkg://prefix_opd.grading.reward"),
        ("me@example.org asks: 1:2@3", "me@example.org asks: 1:2@3"),
    ],
)
def test_one_redactor_for_config_command_and_report(text, shown, tmp_path, monkeypatch):
    from prefix_opd.run.folder import keep_command

    assert redact(text) == shown
    assert without_secrets({"a": [text]}) == {"a": [shown]} and command_without_secrets(["x", text])[1] == shown
    keep_command([tmp_path], ["train", f"a={text}"])
    kept = (tmp_path / "commands.txt").read_text()
    assert text in kept if shown == text else text not in kept
    config = OmegaConf.create({"data": {"mirror": text}})
    if shown == text:
        check_no_secrets(config)
    else:
        with pytest.raises(UserError, match="data.mirror: holds a secret"):
            check_no_secrets(config)


def test_the_kept_command_holds_no_secret(tmp_path, monkeypatch):
    from prefix_opd.run.folder import keep_command

    monkeypatch.setenv("HF_TOKEN", SECRET)
    keep_command([tmp_path], ["train", "a=1", f"b={SECRET}", "c=hf_" + "a" * 34])
    assert (tmp_path / "commands.txt").read_text() == "prefix-opd train a=1 'b=***' 'c=***'\n"


def test_what_has_the_form_of_a_token_is_hidden():
    token = "hf_" + "a" * 34
    assert redact(f'{{"tokenizer": "{token}"}}') == f'{{"tokenizer": "{HIDDEN}"}}'
    assert redact("hf_home and sk-learn stay") == "hf_home and sk-learn stay"


def test_a_data_manifest_holds_no_secret(monkeypatch):
    from prefix_opd.data.manifest import as_text

    monkeypatch.setenv("HF_TOKEN", SECRET)
    text = as_text({"source": {"kind": SECRET}, "settings": {"revision": SECRET}})
    assert SECRET not in text and json.loads(text)["settings"] == {"revision": HIDDEN}

"""SeqKD learns the tokens that on-policy distillation samples, behind the same prompt."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from transformers import AutoTokenizer

from prefix_opd.config.compose import CONFIG_MODULE, _without_importing_verl
from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.tokenizer import prompt_text
from prefix_opd.verl_plugin.seqkd_dataset import PrefixSFTDataset

QUESTION, ANSWER = "7+3", "10</think>10"


@pytest.mark.parametrize("kept", [None, 3, 500])
def test_prompt_and_trained_tokens(kept, tmp_path):
    GlobalHydra.instance().clear()
    with initialize_config_module(CONFIG_MODULE, version_base=None):
        config = compose("seqkd_tiny", overrides=[_without_importing_verl(), f"data.answer_tokens={kept or 'null'}"])
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    pq.write_table(pa.Table.from_pylist([{"messages": messages}] * 2), tmp_path / "sft.parquet")
    tokenizer = AutoTokenizer.from_pretrained(str(shipped_models()["student"]))
    prompt = tokenizer.encode(prompt_text(tokenizer, QUESTION))
    answer = tokenizer.encode(ANSWER + "<|im_end|>", add_special_tokens=False)

    tokenizer.chat_template = config.model.custom_chat_template
    dataset = PrefixSFTDataset(
        parquet_files=[str(tmp_path / "sft.parquet")], tokenizer=tokenizer, config=config.data, max_samples=-1
    )
    example = dataset[1]
    assert example["input_ids"].tolist() == prompt + answer[:kept]
    assert example["loss_mask"].tolist() == [0] * len(prompt) + [1] * len(answer[:kept])
    assert {len(value) for value in example.values()} == {len(prompt + answer[:kept])}

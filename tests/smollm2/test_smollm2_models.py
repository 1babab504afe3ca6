"""The model from a GGUF file, and its teacher."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefix_opd.miniature import shipped_models
from prefix_opd.miniature.sft import train
from prefix_opd.smollm2.__main__ import main
from prefix_opd.smollm2.teacher import batches

HIDDEN, INNER, HEADS, KEY_HEADS, HEAD = 64, 96, 2, 1, 32
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory):
    """A Llama of one layer as a GGUF file, its matrices in Q4_1, and what they stand for by Q4_1's formula."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {"block_count": 1, "context_length": 128, "embedding_length": HIDDEN}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_key_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    pieces = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        *"abcdefghijklmnopqrstuvwxyz0123456789",
        "Ġ",
        "Ċ",
        "ab",
        "abc",
    ]
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(pieces)
    writer.add_token_types([3] * 3 + [1] * (len(pieces) - 3))
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    shapes = {
        "blk.0.attn_q": (HEADS * HEAD, HIDDEN),
        "blk.0.attn_k": (KEY_HEADS * HEAD, HIDDEN),
        "blk.0.attn_v": (KEY_HEADS * HEAD, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HEADS * HEAD),
        "blk.0.ffn_gate": (INNER, HIDDEN),
        "blk.0.ffn_up": (INNER, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INNER),
        "token_embd": (len(pieces), HIDDEN),
    }
    rng, stored = np.random.default_rng(0), {}
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType.Q4_1
        packed = gguf.quants.quantize(rng.normal(size=shape).astype(np.float32), kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
        stored[name] = unpacked(packed, shape)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, stored


def unpacked(packed: np.ndarray, shape: tuple[int, int]) -> torch.Tensor:
    """Q4_1: blocks of 32 weights d q + m, with d and m in fp16 and q in 4 bits, first the low halves of the bytes."""
    blocks = packed.reshape(-1, 20)
    d, m = (blocks[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
    q = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return torch.tensor(d * q + m).reshape(shape)


def test_a_gguf_file_becomes_a_folder(small_gguf, tmp_path):
    path, stored = small_gguf
    folder = tmp_path / "made" / "student"
    assert main(["model", "--gguf", str(path), "--out", str(folder)]) == 0
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    weights = model.state_dict()
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    layer = "model.layers.0"
    for name, key in {"ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_v": "self_attn.v_proj"}.items():
        assert torch.equal(weights[f"{layer}.{key}.weight"], stored[f"blk.0.{name}"])
    assert torch.equal(weights["model.embed_tokens.weight"], stored["token_embd"])
    # llama.cpp interleaves the halves that rotary embedding turns
    query = stored["blk.0.attn_q"].reshape(HEADS, HEAD // 2, 2, HIDDEN).transpose(1, 2).reshape(HEADS * HEAD, HIDDEN)
    assert torch.equal(weights[f"{layer}.self_attn.q_proj.weight"], query)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id == 2
    assert tokenizer.encode("ab1 ") == [tokenizer.convert_tokens_to_ids(piece) for piece in ("ab", "1", "Ġ")]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False) == (
        "<|im_start|>ab<|im_end|>"
    )


def test_batches_train_the_solution_and_its_end(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(str(shipped_models()["teacher"]))
    ids, labels = next(batches(tokenizer, 3, seed=0))
    again, _ = next(batches(tokenizer, 3, seed=0))
    other, _ = next(batches(tokenizer, 3, seed=1))
    assert torch.equal(ids, again) and not torch.equal(ids[:, :300], other[:, :300])
    for row, marks in zip(ids, labels, strict=True):
        learnt = marks >= 0
        assert torch.equal(row[learnt], marks[learnt])
        first, last = learnt.nonzero()[[0, -1], 0].tolist()
        assert learnt[first : last + 1].all()
        prompt, solution = tokenizer.decode(row[:first]), tokenizer.decode(row[first : last + 1])
        assert prompt.endswith("NUMBER.<|im_end|>\n<|im_start|>assistant\n")
        assert solution.splitlines()[0] in prompt and solution.endswith(f".{tokenizer.eos_token}")
        assert (row[last + 1 :] == tokenizer.pad_token_id).all()


def test_fine_tuning_learns_and_writes_a_folder(tmp_path):
    student = str(shipped_models()["student"])
    folder = tmp_path / "made" / "teacher"
    asked = {"--model": student, "--out": str(folder), "--updates": "8", "--batch": "4", "--lr": "3e-3"}
    assert main(["teacher", *sum(asked.items(), ())]) == 0
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids, labels = next(batches(tokenizer, 4, seed=9))
    losses = [
        AutoModelForCausalLM.from_pretrained(path)(input_ids=ids, labels=labels).loss.item()
        for path in (student, str(folder))
    ]
    assert losses[1] < losses[0] - 1


def test_the_learning_rate_warms_up_and_ends_near_zero():
    """Adam's first update moves each weight by the learning rate: peak / 50 at first, in short runs sooner the peak."""

    class Line(torch.nn.Module):
        """Hidden states of 1 and a head of two tokens."""

        device = torch.device("cpu")

        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(1, 2, bias=False)
            torch.nn.init.zeros_(self.head.weight)

        def base_model(self, input_ids):
            return SimpleNamespace(last_hidden_state=torch.ones(*input_ids.shape, 1))

        def get_output_embeddings(self):
            return self.head

    for updates, share in ((500, 1 / 50), (200, 1 / 20), (9, 1)):
        model, one = Line(), torch.tensor([[0, 1]])
        with pytest.raises(StopIteration):
            train(model, iter([(one, one)]), updates=updates, lr=0.5, name="line")
        assert model.head.weight.flatten().tolist() == pytest.approx([-0.5 * share, 0.5 * share], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["teacher", "--updates", "0"], "error: --updates=0: must be a whole number of at least 1"),
        (["teacher", "--lr", "0", "--out", "new"], "error: --lr=0: must be above 0"),
        (["teacher", "--out", "."], "error: --out=.: exists; name a new folder"),
        (["data", "--train", "-1"], "error: --train=-1: must be a whole number of at least 1"),
        (
            ["model", "--gguf", "none.gguf"],
            "error: --gguf=none.gguf: does not exist; name a GGUF file of a Llama model",
        ),
        (["table", "none"], "error: none: "),
    ],
)
def test_bad_input_is_one_line(arguments, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(line) and told.count("\n") == 1
    assert not list(tmp_path.iterdir())

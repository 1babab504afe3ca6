"""The benchmark of the update alone, rehearsed on a CPU: every variant that needs no GPU is a row with numbers."""

import re
import subprocess
import sys

import pytest

from benchmarks.update import main
from benchmarks.update_variants import SHAPES, VARIANTS

NEEDS_A_GPU = ("packed attention", "+ verl's fused head")


def test_every_variant_is_a_row_and_all_have_the_same_gradient():
    sizes = ["--shape", "tiny", "--tokens", "32", "--prompt", "4", "--response", "4", "12", "--updates", "1"]
    command = [sys.executable, "-m", "benchmarks.update", *sizes, "--device", "cpu", "--seconds", "600"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert re.findall(r"^## (.+)", ran.stdout, re.M) == ["Update of tiny, L = 4", "Update of tiny, L = 12"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ran.stdout.splitlines() if "|" in line]
    rows = [row for row in rows if row[0] not in ("variant", "---")]
    assert [row[0] for row in rows] == 2 * [variant.name for variant in VARIANTS]
    for place, (name, milliseconds, _, _, _, loss, gradient, note) in enumerate(rows):
        if name in NEEDS_A_GPU:
            assert note.startswith("failed: ") and not milliseconds
        else:
            assert float(milliseconds) > 0 and float(gradient) < 1e-4, (name, note)
            assert loss == rows[place - place % len(VARIANTS)][5]


def test_shapes_of_published_models():
    assert SHAPES["qwen3_1.7b"]["hidden_size"] == 2048
    assert SHAPES["qwen3_8b"]["num_hidden_layers"] == 36


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--shape", "qwen3_1b"], "--shape qwen3_1b: is no shape"),
        (["--tokens", "100"], "--tokens 100: holds no sequence of 146 + 1024 tokens"),
        (["--device", "tpu"], "--device tpu: is no device"),
        (["--only", "nothing"], "--only nothing: is no variant"),
        (["--response", "0"], "--response 0"),
    ],
)
def test_bad_input_is_one_line(given, message, capsys):
    assert main(given) == 2
    assert message in capsys.readouterr().err

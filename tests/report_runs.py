"""What a written run holds for the report."""

import json

from prefix_opd.run.samples import Sample

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
POINT = {"mean_length": 8.0, "accuracy": 0.5, "interval": [0.4, 0.6], "drop": [0.1, 0.0, 0.2]}
PREFIXES = {
    "kind": "teacher-prefix",
    "student": "s",
    "teacher": "t",
    "problems": 32,
    "samples": 1,
    "margin": 6,
    "points": [{"length": 0, **POINT}, {"length": 8, **POINT}],
    "giver": 0.9,
    "chosen": None,
}
STUDENT_PREFIX = {**PREFIXES, "kind": "student-prefix", "giver": 0.1, "chosen": 8}


def sample(step, kind="train", **more):
    values = dict(prompt=f"1+1={HOSTILE}", tokens=["a", HOSTILE, "c"], ids=[1, 2, 3], log_p=[-1.0, -2.0, -0.5])
    return Sample(
        **{**values, **dict(step=step, kind=kind, log_q=[-3.0, -1.0, -0.5], prefix_length=2, ending="natural"), **more}
    )


def write_answers(folder, step, text, score):
    line = {"input": "user\n1+1=", "output": text, "gts": "2", "score": score}
    (folder / "validation" / f"{step}.jsonl").write_text(json.dumps(line) + "\n")

"""Several short runs of the real program, one after another, that share their imports: ``python warm_runs.py FILE``.

FILE is JSON: name -> Hydra overrides. Beside it each run has its folder NAME (unless it names
another) and its output in NAME.log, and codes.json
says how each ended.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.isolation import become_subreaper, run_isolated
from harness.process import warm_up


def main(file: Path) -> None:
    become_subreaper()
    warm_up()
    codes = {}
    for name, overrides in json.loads(file.read_text()).items():
        # a folder of its own, unless it goes on in that of another
        own = f"trainer.default_local_dir={file.parent / name}"
        work = functools.partial(train, [own, *overrides])
        codes[name] = run_isolated(work, (file.parent / name).with_suffix(".log"))
    (file.parent / "codes.json").write_text(json.dumps(codes))


def train(overrides: list[str]) -> None:
    from prefix_opd import launch

    sys.exit(launch.main(overrides))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

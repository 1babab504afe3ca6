"""Run the real program several times, one after another, with shared imports: ``python warm_runs.py FILE``.

FILE is JSON: name -> Hydra overrides. The runs write next to it: the folder NAME (unless the overrides name another),
the output NAME.log, and the exit codes in codes.json.
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
        # its own folder, unless it resumes in that of another run
        own = f"trainer.default_local_dir={file.parent / name}"
        work = functools.partial(train, [own, *overrides])
        codes[name] = run_isolated(work, (file.parent / name).with_suffix(".log"))
    (file.parent / "codes.json").write_text(json.dumps(codes))


def train(overrides: list[str]) -> None:
    from prefix_opd import launch

    sys.exit(launch.main(overrides))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""verl's trackers, none of which can end the run: not when it is made, not when it is written to, not at the end.

verl makes all of them in one constructor inside ``fit``, where the first that is out of reach raises. Here each is made
by itself; one that fails is told and done without, and the run's own record (`prefix_opd.run.log`) has it all anyway.
"""

from __future__ import annotations

import logging
from typing import Any

from verl.utils.tracking import Tracking

from prefix_opd.run.log import Forgiving

logger = logging.getLogger(__name__)


class Trackers(Tracking):
    """verl's trackers, each made by itself, tried once, and ended once."""

    def __init__(
        self, project_name: str, experiment_name: str, default_backend: str | list[str] = "console", config: Any = None
    ):
        names = [default_backend] if isinstance(default_backend, str) else list(default_backend)
        super().__init__(project_name, experiment_name, [], config)
        for name in names:
            try:
                made = Tracking(project_name, experiment_name, [name], config)
            except AssertionError:  # no tracker of this name: bad input
                raise
            except Exception as error:
                logger.warning("%s cannot be reached (%s); the run goes on without it", name, error)
                continue
            made._finished = True  # it would end its tracker when it is collected; that is ours to do
            self.logger.update({one: Forgiving(one, tracker) for one, tracker in made.logger.items()})


def forgiving(verls_own: type) -> type:
    """`Trackers` in place of verl's class."""
    return Trackers

"""Ids that Ray draws in the forks of one process.

Ray's C++ part draws ids from a generator that a fork inherits. Once the launcher had drawn one, all processes of a run
would draw the same ids, and Ray ends an actor that runs two tasks of one id. verl's actor classes draw one each when
they are imported. So the launcher's imports take their ids from `ClassIDs`. `forks_draw_alike` tests with two forks
whether another import has drawn one.
"""

from __future__ import annotations

import os


class ClassIDs:
    """What ``ray.remote`` asks for the id of a class, in place of Ray's generator."""

    @staticmethod
    def from_random():
        from ray import ActorClassID

        return ActorClassID(os.urandom(ActorClassID.size()))


def forks_draw_alike() -> bool:
    """Whether two forks of this process draw the same id from Ray."""

    def drawn() -> bytes:
        reader, writer = os.pipe()
        if not (pid := os.fork()):
            from ray import ObjectRef

            os.write(writer, ObjectRef.from_random().binary())
            os._exit(0)
        os.close(writer)
        os.waitpid(pid, 0)
        with os.fdopen(reader, "rb") as answer:
            return answer.read()

    return drawn() == drawn()

"""Threads that render beside the calling one: how many, and kept from batch to batch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

import numba

from sonogym.errors import InvalidInputError

# Neither numba's own threads nor ``numba.get_num_threads``, which starts them (GNU OpenMP if it is there): numba ends
# a forked child that uses them ("fork() called from a process already using GNU OpenMP"), and resets torch's count.
_limit: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
_Task = tuple[Callable[[int], None], int, "SimpleQueue[BaseException | None]"]


def render_threads() -> int:
    """How many threads share a batch: ``NUMBA_NUM_THREADS`` (the number of cores) unless set."""
    return _limit


def set_render_threads(count: int) -> None:
    """Let ``count`` threads share a batch of this process; frames do not depend on it.

    Raises :class:`InvalidInputError` for less than one.
    """
    global _limit
    if count < 1:
        raise InvalidInputError(f"render threads must be >= 1, got {count}")
    _limit = count


def at_once(work: Callable[[int], None], parts: int) -> None:
    """``work(part)`` of every part at once, the first in the calling thread; raises what any of them raised."""
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for part in range(1, parts):
        _crew(parts - 1).tasks.put((work, part, done))
    failures: list[BaseException | None] = []
    try:
        work(0)
    finally:  # the others still write into arrays of the caller
        failures = [done.get() for _ in range(1, parts)]
    for failure in failures:
        if failure is not None:
            raise failure


class _Crew:
    """Threads of one process that wait for tasks; they end with it."""

    def __init__(self) -> None:
        self.tasks: SimpleQueue[_Task] = SimpleQueue()
        self._count = 0

    def grow(self, count: int) -> None:
        while self._count < count:
            self._count += 1
            threading.Thread(target=self._serve, name=f"sonogym-render-{self._count}", daemon=True).start()

    def _serve(self) -> None:
        while True:
            work, part, done = self.tasks.get()
            failure: BaseException | None = None
            try:
                work(part)
            except BaseException as error:
                failure = error
            del work
            done.put(failure)


_crews: dict[int, _Crew] = {}


def _crew(count: int) -> _Crew:
    """The threads of this process, ``count`` or more: a forked child has none of its parent's."""
    crew = _crews.get(os.getpid()) or _crews.setdefault(os.getpid(), _Crew())
    crew.grow(count)
    return crew

"""How many threads torch works on while many environments are stepped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread within, on as many as before after it; also a decorator.

    Waking threads costs more than the small operations of a step take, above all where others wait for the cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

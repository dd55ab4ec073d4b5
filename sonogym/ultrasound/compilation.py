"""When the fused path is compiled: the name of its sources in numba's cache, and a note to whoever waits."""

from __future__ import annotations

import gc
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from numba.core import event

from sonogym.anatomy import bone, stack_kernel, tissues

NOTE = "sonogym: compiling the renderer, once for this machine and version (15-30 s) ..."


def source_digest() -> str:
    """Digest of every source that compiled code may hold constants or functions of."""
    beside = (bone.__file__, stack_kernel.__file__, tissues.__file__)
    sources = [*sorted(Path(__file__).parent.glob("*.py")), *map(Path, beside)]
    return hashlib.blake2b(b"".join(path.read_bytes() for path in sources), digest_size=8).hexdigest()


@contextmanager
def compilation_noted() -> Iterator[None]:
    """One line on stderr if numba compiles within the block; none if it finds the code in its cache."""
    collected = gc.isenabled()
    try:
        with event.install_listener("numba:compile", _Note()):
            yield
    finally:
        if collected:
            gc.enable()


class _Note(event.Listener):
    """Speaks at the first start of a compilation, and stops the collection of garbage.

    A compiler makes millions of objects that live until it ends: looking through them again and again, and through all
    that torch has loaded, took a seventh of its time.
    """

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: event.Event) -> None:
        """Say what takes so long, once."""
        if not self._said:
            print(NOTE, file=sys.stderr, flush=True)
            gc.disable()
        self._said = True

    def on_end(self, event: event.Event) -> None:
        """Nothing: the frame speaks for itself."""

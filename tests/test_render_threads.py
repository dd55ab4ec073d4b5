"""Threads that share a batch: what they do at once, what they raise, and a forked child of a process that has them."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sonogym.errors import InvalidInputError
from sonogym.ultrasound.render_threads import at_once, render_threads, set_render_threads

FORKED = """
import multiprocessing
import torch
from test_determinism import frame
from sonogym.ultrasound.render_threads import set_render_threads

torch.set_num_threads(1)
set_render_threads(2)
whole = frame("as it comes", "numba", range(17)).beam
with multiprocessing.get_context("fork").Pool(2) as pool:
    for seen in pool.starmap(frame, [("as it comes", "numba", range(17))] * 2):
        assert torch.equal(seen.beam, whole)
assert torch.equal(frame("as it comes", "numba", range(17)).beam, whole)
"""


def test_parts_run_at_once_and_the_first_in_the_calling_thread():
    meeting, threads = threading.Barrier(3, timeout=20.0), {}

    def work(part):
        threads[part] = threading.get_ident()
        meeting.wait()

    at_once(work, 3)
    assert threads[0] == threading.get_ident()
    assert len(set(threads.values())) == 3


@pytest.mark.parametrize("part", [0, 1, 2])
def test_what_a_part_raises_reaches_the_caller_when_all_have_ended(part):
    ended = []

    def work(at):
        if at == part:
            raise ValueError(at)
        ended.append(at)

    with pytest.raises(ValueError, match=str(part)):
        at_once(work, 3)
    assert sorted(ended) == sorted({0, 1, 2} - {part})
    at_once(ended.append, 3)  # and the threads go on
    assert len(ended) == 5


def test_threads_are_kept():
    at_once(lambda _: None, 3)
    before = threading.active_count()
    for _ in range(20):
        at_once(lambda _: None, 3)
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_renders_as_its_parent():
    """Rendering on two threads, a pool of children made by fork, the parent again."""
    command, here = [sys.executable, "-c", FORKED], Path(__file__).parent
    ran = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr


def test_less_than_one_thread_is_refused():
    before = render_threads()
    with pytest.raises(InvalidInputError, match=">= 1, got 0"):
        set_render_threads(0)
    assert render_threads() == before

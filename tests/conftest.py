"""Type checks on, threads and caches of their own: no test touches the user's cache."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

_SONOGYM = Path(__file__).parents[1] / "sonogym"
_HOOK = install_import_hook(
    ["sonogym.anatomy"]
    # numba cannot compile what the hook has wrapped
    + [
        f"sonogym.{folder}.{file.stem}"
        for folder in ("geometry", "ultrasound", "robot", "sim")
        for file in (_SONOGYM / folder).glob("*.py")
        if not file.stem.startswith("kernel")
    ],
    "beartype.beartype",
)

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Patients made by the tests are kept for the session, in SONOGYM_TEST_CACHE if that is set."""
    before = os.environ.get("SONOGYM_CACHE")
    os.environ["SONOGYM_CACHE"] = os.environ.get("SONOGYM_TEST_CACHE") or str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["SONOGYM_CACHE"]
    else:
        os.environ["SONOGYM_CACHE"] = before

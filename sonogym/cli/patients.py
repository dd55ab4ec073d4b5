"""Patients are made before a command needs them: on all cores, with a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any


def make_patients(task: str, options: Mapping[str, Any]) -> None:
    """Fill the cache with the patients that a task made with ``options`` needs."""
    from sonogym.anatomy.library import resolve_patients
    from sonogym.registry import task_config
    from sonogym.ultrasound.bake import bake_missing

    task_options = task_config(task, options)
    if task_options is None:
        return
    names = resolve_patients(task_options.patients, task_options.patient_count)
    bake_missing(names, task_options.pitch, os.cpu_count() or 1, sys.stderr.isatty())

"""Names of tasks and agents, each with the code it stands for as a string that is imported at first use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from sonogym.errors import unknown_name

TASKS: Mapping[str, str] = {"navigation": "sonogym/Navigation-v0", "scanning": "sonogym/Scanning-v0"}

_SINGLE = {name: f"sonogym.envs.{name}:make_env" for name in TASKS}
_VECTOR = {name: f"sonogym.envs.{name}:make_vector_env" for name in TASKS}
_CONFIG = {name: f"sonogym.envs.{name}:{name}_config" for name in TASKS}


def load(target: str) -> Any:
    """The object named ``module:attribute``."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def task_id(task: str) -> str:
    """Gymnasium id of a task's short name; raises :class:`UnknownNameError`."""
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    return TASKS[task]


def task_config(task: str, options: Mapping[str, Any]) -> Any:
    """The frozen configuration that ``options`` make of a task, None for a task that has none here."""
    task_id(task)
    return load(_CONFIG[task])(**options) if task in _CONFIG else None


def register_environments() -> None:
    """Register every task with Gymnasium, single and vectorised."""
    import gymnasium

    for name, identifier in TASKS.items():
        if identifier not in gymnasium.registry:
            gymnasium.register(id=identifier, entry_point=_SINGLE[name], vector_entry_point=_VECTOR[name])

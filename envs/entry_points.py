"""The functions that make a task's environments, which Gymnasium is registered with."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from gymnasium.vector import AutoresetMode

from .single_env import SonogymEnv
from .task import Task
from .vector_env import SonogymVectorEnv


class EntryPoints(NamedTuple):
    """``make_task`` loads the patients too; all take a task's options, ``recipe`` among them.

    ``make_vector_env`` puts ``num_envs`` environments in one batch, of numpy or torch ``array``.
    """

    make_task: Callable[..., Any]
    make_env: Callable[..., SonogymEnv]
    make_vector_env: Callable[..., SonogymVectorEnv]


def entry_points(configure: Callable[..., Any], build: Callable[[Any], Task[Any]]) -> EntryPoints:
    """Entry points of the task that ``build`` makes of the configuration that ``configure`` makes of options."""
    # tasks hold no state, so the environments of a process share them
    task_of = functools.lru_cache(maxsize=8)(build)

    def make_task(recipe: str | None = None, **options: Any) -> Task[Any]:
        return task_of(configure(recipe, **options))

    def make_env(*, recipe: str | None = None, render_mode: str | None = None, **options: Any) -> SonogymEnv:
        return SonogymEnv(make_task(recipe, **options), render_mode=render_mode)

    def make_vector_env(
        num_envs: int = 1,
        *,
        recipe: str | None = None,
        array: str = "numpy",
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        **options: Any,
    ) -> SonogymVectorEnv:
        task = make_task(recipe, **options)
        return SonogymVectorEnv(task, num_envs, array=array, autoreset_mode=autoreset_mode, render_mode=render_mode)

    return EntryPoints(make_task, make_env, make_vector_env)

"""A training run from start to end: environment, learner, curve, and the table against unseen patients."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import VectorEnv

from sonogym.errors import InvalidInputError, MissingFileError

from .budget import Budget
from .environment import make_environment
from .evaluate import evaluate, make_table
from .recipes import RunConfig, load_recipe
from .report import draw_curve, markdown_table
from .run_folder import RunFolder

POLICIES = ("expert", "blind", "random")


def train(config: RunConfig, path: Path, resume: bool, on_budget: Callable[[Budget], None]) -> RunFolder:
    """Train as ``config`` says into the folder ``path``, or go on with the run that lies there.

    ``on_budget`` is handed the run's budget, whose ``interrupt`` ends it early and resumable.
    Raises :class:`SonogymError` for a folder, task, device or option that cannot be used.
    """
    folder = RunFolder(path)
    if resume:
        _require_same_learner(folder.config(), config)
    _prepare(config)
    env = make_environment(config.task, config.num_envs, config.options())
    try:
        folder.start(config, resume)
        checkpoint = folder.load_checkpoint()
        facts = checkpoint[2] if checkpoint else {"steps": 0, "seconds": 0.0}
        folder.read_rows(int(facts["steps"]))
        # the first reset compiles kernels, which is not the learner's time
        env.reset(seed=config.seed)
        budget = Budget(config, int(facts["steps"]), float(facts["seconds"]))
        on_budget(budget)
        _learner(config, folder, env, budget).run()
    finally:
        env.close()
    draw_curve(folder.progress_file, folder.path / "curve.png")
    if not budget.interrupted and config.evaluation.episodes:
        compare(folder, config)
    return folder


def _learner(config: RunConfig, folder: RunFolder, env: VectorEnv, budget: Budget) -> Any:
    if config.algorithm == "dagger":
        from .dagger import Dagger

        return Dagger(config, folder, env, budget)
    from .ppo import PPORun

    return PPORun(config, folder, env, budget)


def _prepare(config: RunConfig) -> None:
    torch.set_num_threads(config.threads)
    if torch.device(config.device).type == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError(f"device {config.device!r} is not there; use --set device=cpu")


def _require_same_learner(stored: RunConfig, wanted: RunConfig) -> None:
    """A resumed run may change its budget and rates, never what its checkpoint fits."""
    for name in ("task", "algorithm", "network"):
        if getattr(stored, name) != getattr(wanted, name):
            raise InvalidInputError(
                f"the run was started with {name} {getattr(stored, name)}, it cannot go on with {getattr(wanted, name)}"
            )


def compare(folder: RunFolder, config: RunConfig) -> dict[str, Any]:
    """Evaluate the run's policy beside expert, blind and random on unseen patients; writes evaluation.json and .md."""
    options = config.evaluation
    results = {}
    for name in (str(folder.path), *POLICIES):
        try:
            results[name] = evaluate(
                config.task,
                name,
                patients=options.patients,
                episodes=options.episodes,
                seed=config.seed,
                num_envs=options.num_envs,
                environment=config.environment,
                patient_count=options.patient_count,
            ).summary
        except MissingFileError:
            # the blind weights are shipped only for some tasks; its row is then left out
            if name != "blind":
                raise
    rows = list(results.values())
    rows[0] = {**rows[0], "policy": "policy"}
    folder.write_text(folder.path / "evaluation.json", make_table(rows))
    folder.write_text(folder.path / "evaluation.md", markdown_table(rows))
    return {row["policy"]: row for row in rows}


def measure_throughput(path: Path, steps: int) -> tuple[int, float]:
    """Environment steps and seconds of a PPO run of ``steps`` steps with the quick recipe."""
    config = dataclasses.replace(load_recipe("quick", "navigation"), algorithm="ppo", patients="procedural:train/0-15")
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, memory="none"), steps=steps)
    _prepare(config)
    env = make_environment(config.task, config.num_envs, config.options())
    folder = RunFolder(path / "run")
    try:
        folder.start(config, resume=False)
        budget = Budget(config)
        learner = _learner(config, folder, env, budget)
        started = time.perf_counter()
        learner.run()
        return budget.steps, time.perf_counter() - started
    finally:
        env.close()

"""Rows of ``sonogym benchmark env`` and ``train``."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import Any

from sonogym.cli.benchmark import timed
from sonogym.registry import TASKS, task_id

PATIENTS = 16
SMALL, LARGE = 64, 1024


def env_rows(quick: bool) -> list[dict[str, Any]]:
    """A row a task and number of environments: one step of all with random actions, no learner."""
    repeats = 5 if quick else 30
    rows = []
    for task in TASKS:
        small = _env_row(task, SMALL, repeats)
        large = _env_row(task, LARGE, max(repeats // 4, 3))
        large["baseline"], large["ratio"] = f"per env-step at {SMALL}", small["per_second"] / large["per_second"]
        extra = (large.pop("peak_bytes") - small.pop("peak_bytes")) / (LARGE - SMALL)
        large["bytes_per_extra_env"] = extra
        rows += [small, large]
    return [*rows, _robotic_row(repeats)]


def _robotic_row(repeats: int) -> dict[str, Any]:
    """The step with arm, contact and force control; ``share`` of it is theirs, beside the step without them."""
    row = _env_row("navigation", SMALL, repeats, recipe="robotic")
    plain = _env_row("navigation", SMALL, repeats)
    share = 1.0 - (plain["ms"] - plain["render_ms"] + row["render_ms"]) / row["ms"]
    return row | {"name": "navigation_robotic", "share": share}


def _env_row(task: str, envs: int, repeats: int, **options: Any) -> dict[str, Any]:
    import gymnasium

    from sonogym.ultrasound.render_threads import render_threads

    env: Any = gymnasium.make_vec(
        task_id(task), num_envs=envs, vectorization_mode="vector_entry_point", patient_count=PATIENTS, **options
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    action = env.action_space.sample()
    step, spread = timed(lambda: env.step(action), repeats)
    simulator, state = env.unwrapped.task.simulator, env.unwrapped.state.sim
    render, _ = timed(lambda: simulator.render(state), repeats)
    height, width = env.single_observation_space["image"].shape[-2:]
    return {
        "name": task,
        "size": f"{height}x{width}",
        "batch": envs,
        "threads": render_threads(),
        "ms": 1e3 * step,
        "per_second": envs / step,
        "spread": spread,
        "baseline": "rendering alone",
        "ratio": render / step,
        "render_ms": 1e3 * render,
        "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def train_rows(quick: bool) -> list[dict[str, Any]]:
    """The row ``ppo``: env-steps a second of the whole learning loop, against stepping alone."""
    from sonogym.registry import load

    train = load("sonogym.agents.train:measure_throughput")
    stepping = _env_row("navigation", 32, 10)
    with tempfile.TemporaryDirectory() as folder:
        steps, seconds = train(Path(folder), steps=4096 if quick else 16384)
    return [
        {
            "name": "ppo",
            "size": stepping["size"],
            "batch": 32,
            "threads": stepping["threads"],
            "ms": 1e3 * seconds / steps,
            "per_second": steps / seconds,
            "spread": None,
            "baseline": "stepping alone",
            "ratio": steps / seconds / stepping["per_second"],
        }
    ]

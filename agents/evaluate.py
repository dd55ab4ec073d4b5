"""Play whole episodes with a policy and sum them up, with intervals that respect whom they came from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from sonogym.errors import require_between

from .environment import make_environment, observation_arrays, outcome, patient_options, require_same_step
from .policy import Policy, load_policy
from .recording import Recorder, Recording

RESAMPLES = 2000
NEAR_POSITION, NEAR_ANGLE = 0.010, np.deg2rad(10.0)
TERMS = ("position_error", "angle_error", "success", "level_hit", "patient")
METRIC = "metric/"  # begins the names of what a task reports besides


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """One entry an episode, (episodes,) each: the last state's errors [m, rad] and what the episode summed up to.

    Errors and level of a task that knows none are NaN; ``metrics`` holds what it reports besides, by name.
    """

    patient: np.ndarray
    position_error: np.ndarray
    angle_error: np.ndarray
    success: np.ndarray
    level_hit: np.ndarray
    total: np.ndarray
    cost: np.ndarray
    steps: np.ndarray
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of tasks.md, the episodes behind them and what was recorded of them."""

    summary: dict[str, Any]
    episodes: Episodes
    recording: Recording


def evaluate(
    task: str,
    policy: str,
    *,
    patients: str,
    episodes: int,
    seed: int,
    num_envs: int,
    patient_count: int,
    environment: Mapping[str, Any],
) -> Evaluation:
    """Play ``episodes`` episodes of ``task`` on ``patients`` with the policy called ``policy``.

    Of a whole split the first ``patient_count`` patients are used; ``environment`` holds further keywords of the task.
    Raises :class:`SonogymError` for anything that cannot be used.
    """
    require_between("episodes", episodes, 1, 1e6)
    require_between("seed", seed, 0, 2**31 - 1)
    started = time.perf_counter()
    env = make_environment(task, min(num_envs, episodes), {**environment, **patient_options(patients, patient_count)})
    try:
        played, recording = play(env, load_policy(policy, task, env, seed), episodes, seed)
    finally:
        env.close()
    facts = {"task": task, "policy": policy, "patients": patients, "episodes": episodes, "seed": seed}
    summary = {**facts, **summarise(played, seed), "wall_s": round(time.perf_counter() - started, 3)}
    return Evaluation(summary=summary, episodes=played, recording=recording)


def play(env: VectorEnv, policy: Policy, episodes: int, seed: int) -> tuple[Episodes, Recording]:
    """Exactly ``episodes`` episodes, shared evenly among the environments so that short ones are not preferred."""
    require_same_step(env)
    quota = np.full(env.num_envs, episodes // env.num_envs)
    quota[: episodes % env.num_envs] += 1
    observation, info = env.reset(seed=seed)
    policy.reset(np.ones(env.num_envs, dtype=bool))
    totals = np.zeros((3, env.num_envs))
    recorder = Recorder(env.num_envs)
    rows: list[dict[str, float]] = []
    while quota.any():
        recorder.see(observation, info, quota > 0)
        observation, reward, terminated, truncated, info = env.step(policy.act(observation_arrays(observation), info))
        done = np.asarray(terminated) | np.asarray(truncated)
        cost = outcome(info, "cost", done)
        totals += np.stack(
            [np.asarray(reward), np.zeros(env.num_envs) if cost is None else cost, np.ones(env.num_envs)]
        )
        if done.any():
            recorder.end(info, done, quota > 0)
            rows += _finished(info, done, quota, totals)
            quota[done & (quota > 0)] -= 1
            totals[:, done] = 0.0
            policy.reset(done)
    return _episodes(rows), recorder.recording()


def _finished(
    info: Mapping[str, Any], done: np.ndarray, quota: np.ndarray, totals: np.ndarray
) -> list[dict[str, float]]:
    reported = {name for known in (info, info.get("final_info", {})) for name in known if name.startswith(METRIC)}
    values = {term: outcome(info, term, done) for term in (*TERMS, *sorted(reported))}
    rows = []
    for index in np.flatnonzero(done & (quota > 0)):
        row = {term: float(value[index]) for term, value in values.items() if value is not None}
        row |= dict(zip(("total", "cost", "steps"), totals[:, index].tolist(), strict=True))
        rows.append(row)
    return rows


def _episodes(rows: Sequence[Mapping[str, float]]) -> Episodes:
    columns = {key: np.array([row.get(key, np.nan) for row in rows]) for key in (*TERMS, "total", "cost", "steps")}
    names = [key for key in rows[0] if key.startswith(METRIC)]
    metrics = {name.removeprefix(METRIC): np.array([row[name] for row in rows]) for name in names}
    return Episodes(**columns, metrics=metrics)


def summarise(episodes: Episodes, seed: int) -> dict[str, Any]:
    """The figures of tasks.md: rates with a patient-clustered interval, errors in millimetres and degrees."""
    low, high = clustered_interval(episodes.success, episodes.patient, seed)
    metrics = {name: _spread(values) for name, values in episodes.metrics.items()}
    return {
        "success_rate": float(episodes.success.mean()),
        "success_interval": [low, high],
        **({} if np.isnan(episodes.position_error).all() else _errors(episodes)),
        **({"metrics": metrics} if metrics else {}),
        "return_mean": float(episodes.total.mean()),
        "cost_mean": float(episodes.cost.mean()),
        "steps_mean": float(episodes.steps.mean()),
    }


def _errors(episodes: Episodes) -> dict[str, Any]:
    """What is known of a task with a goal pose."""
    near = (episodes.position_error <= NEAR_POSITION) & (episodes.angle_error <= NEAR_ANGLE)
    return {
        "success_rate_10": float(near.mean()),
        "level_rate": float(episodes.level_hit.mean()),
        "position_error_mm": _spread(1e3 * episodes.position_error),
        "angle_error_deg": _spread(np.rad2deg(episodes.angle_error)),
    }


def clustered_interval(success: np.ndarray, patient: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean of ``success``, resampling whole patients (Cameron & Miller 2015).

    Episodes of one patient are alike, so they are drawn together; with a single patient, episodes are drawn instead.
    """
    names, cluster = np.unique(patient, return_inverse=True)
    if len(names) == 1:
        cluster = np.arange(len(success))
    hits = np.bincount(cluster, weights=success)
    counts = np.bincount(cluster)
    draws = np.random.default_rng([seed, 0x95]).integers(len(hits), size=(RESAMPLES, len(hits)))
    means = hits[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95.0)),
    }


def make_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Several summaries as one JSON text."""
    return json.dumps(list(rows), indent=2) + "\n"

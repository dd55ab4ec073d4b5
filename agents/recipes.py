"""What a training run is made of: one frozen configuration, read from ``assets/recipes/`` or a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonogym.config import override
from sonogym.errors import InvalidInputError, MissingFileError, require_between, unknown_name
from sonogym.resources import asset_names, read_toml

from .environment import patient_options
from .networks import NetworkConfig

ALGORITHMS = ("ppo", "dagger")


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """stable-baselines3 PPO; ``privileged`` numbers of ``info["privileged"]`` go to the critic only (0: none).

    ``target_kl`` ends an iteration's epochs early where the policy moved farther than 1.5 times that (0: never).
    """

    rollout: int = 64
    batch: int = 512
    epochs: int = 4
    gamma: float = 0.95
    gae_lambda: float = 0.9
    clip: float = 0.2
    target_kl: float = 0.0
    entropy: float = 0.0
    value_weight: float = 0.5
    log_std: float = -0.5
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    privileged: int = 3

    def __post_init__(self) -> None:
        require_between("ppo.gamma", self.gamma, 0.0, 1.0)
        require_between("ppo.gae_lambda", self.gae_lambda, 0.0, 1.0)
        require_between("ppo.learning_rate", self.learning_rate, 1e-7, 1.0)
        for name in ("rollout", "batch", "epochs"):
            require_between(f"ppo.{name}", getattr(self, name), 1, 1e7)


@dataclass(frozen=True, kw_only=True)
class DaggerConfig:
    """Imitation of the privileged expert on the learner's own states.

    Every iteration steps all environments ``rollout`` times, then trains ``replay`` samples for each one collected, in
    batches of ``batch`` samples cut into stretches of ``sequence`` steps, of which the first ``burn_in`` only warm the
    memory. The expert acts with a probability falling from 1 to ``beta`` over the first ``beta_fraction`` of the run.
    ``capacity`` bounds the steps kept; ``average`` is the decay of the weight average that becomes the policy.
    """

    rollout: int = 32
    capacity: int = 300_000
    batch: int = 512
    sequence: int = 32
    burn_in: int = 4
    replay: float = 4.0
    beta: float = 0.05
    beta_fraction: float = 0.1
    goal_weight: float = 0.5
    learning_rate: float = 1e-3
    final_learning_rate: float = 2e-5
    weight_decay: float = 1e-4
    average: float = 0.999

    def __post_init__(self) -> None:
        require_between("dagger.beta", self.beta, 0.0, 1.0)
        require_between("dagger.average", self.average, 0.0, 0.99999)
        require_between("dagger.learning_rate", self.learning_rate, 1e-7, 1.0)
        require_between("dagger.burn_in", self.burn_in, 0, self.sequence - 1)
        for name in ("rollout", "batch", "sequence"):
            require_between(f"dagger.{name}", getattr(self, name), 1, self.capacity)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The table at the end of a run: unseen patients (the first ``patient_count`` of a split) and episodes."""

    patients: str = "procedural:test"
    patient_count: int = 32
    episodes: int = 64
    num_envs: int = 32

    def __post_init__(self) -> None:
        require_between("evaluation.episodes", self.episodes, 0, 1e6, hint="0 skips the table")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run. The budget is ``minutes`` of wall clock, or ``steps`` environment steps where that is not 0.

    ``patient_count`` keeps the first ones where ``patients`` names a whole split.
    """

    task: str
    algorithm: str = "dagger"
    patients: str = "procedural:train"
    patient_count: int = 64
    num_envs: int = 32
    seed: int = 0
    minutes: float = 10.0
    steps: int = 0
    checkpoint_minutes: float = 1.0
    device: str = "cpu"
    threads: int = 1
    init: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    dagger: DaggerConfig = field(default_factory=DaggerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise unknown_name("algorithm", self.algorithm, ALGORITHMS)
        require_between("num_envs", self.num_envs, 1, 65536)
        require_between("minutes", self.minutes, 1e-3, 1e5, "min", "use --steps for a budget in steps")
        require_between("steps", self.steps, 0, 1e12)
        require_between("seed", self.seed, 0, 2**31 - 1)
        require_between("threads", self.threads, 1, 1024)
        if self.algorithm == "ppo" and self.network.memory != "none":
            raise InvalidInputError(
                "ppo trains networks without memory: use --set network.memory=none or --algo dagger"
            )

    def options(self) -> dict[str, Any]:
        """Keywords the task is made with."""
        return {**self.environment, **patient_options(self.patients, self.patient_count)}


def load_recipe(name: str, task: str) -> RunConfig:
    """The recipe ``name`` of ``task`` (``assets/recipes/<task>_<name>.toml``), or a TOML file of one's own."""
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise MissingFileError(f"no recipe file {path}")
        return from_table(_parsed(path), task)
    names = [
        known.removeprefix(f"{task}_") for known in asset_names("recipes", ".toml") if known.startswith(f"{task}_")
    ]
    if name not in names:
        raise unknown_name(f"recipe of {task}", name, names)
    return from_table(read_toml("recipes", f"{task}_{name}", "recipe"), task)


def read_config(path: Path) -> RunConfig:
    """The configuration a run folder holds."""
    table = _parsed(path)
    if "task" not in table:
        raise InvalidInputError(f"{path} is no run configuration: it names no task")
    return from_table({key: value for key, value in table.items() if key != "task"}, table["task"])


def from_table(table: Mapping[str, Any], task: str) -> RunConfig:
    """A configuration from nested TOML tables; unknown keys and wrong types are refused."""
    config = RunConfig(task=task, environment=dict(table.get("environment", {})))
    flat = _flat({key: value for key, value in table.items() if key not in ("environment", "source")})
    # the algorithm is checked against the network, so it goes last
    flat = dict(sorted(flat.items(), key=lambda item: item[0] == "algorithm"))
    return override(config, flat)


def with_changes(config: RunConfig, changes: Sequence[str]) -> RunConfig:
    """``config`` with ``key=value`` texts applied; values are TOML, bare words are strings."""
    dotted = literals(changes)
    prefix = "environment."
    environment = {key.removeprefix(prefix): dotted.pop(key) for key in list(dotted) if key.startswith(prefix)}
    config = dataclasses.replace(config, environment={**config.environment, **environment})
    return override(config, dotted)


def literals(changes: Sequence[str]) -> dict[str, Any]:
    """``["a=1", "b=x"]`` as ``{"a": 1, "b": "x"}``; raises :class:`InvalidInputError` for a text without ``=``."""
    pairs = {}
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidInputError(f"--set takes KEY=VALUE, got {text!r}")
        pairs[key.strip()] = _literal(value.strip())
    return pairs


def to_table(config: RunConfig) -> dict[str, Any]:
    """``config`` as nested plain tables, as :func:`from_table` reads them, with the task."""
    return dataclasses.asdict(config)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _literal(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{path} is not TOML: {error}") from error

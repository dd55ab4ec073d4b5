"""Many environments of one task stepped as one batch, behind ``gymnasium.vector.VectorEnv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from sonogym.errors import InvalidInputError, unknown_name
from sonogym.random import Streams
from sonogym.sim.state import put, take
from sonogym.ultrasound.threads import one_thread

from .observations import remember
from .task import Task

ARRAYS = ("numpy", "torch")
_SEED_LIMIT = 2**63


class SonogymVectorEnv(VectorEnv):
    """``num_envs`` environments of ``task``.

    Environment i draws from a stream of its own: its episodes do not depend on ``num_envs`` or on the others.
    ``array``: "numpy" or "torch" arrays are handed out. ``autoreset_mode`` as Gymnasium defines it: with SAME_STEP the
    last observation and info of an episode come in ``info["final_obs"]`` and ``info["final_info"]``.
    """

    def __init__(
        self,
        task: Task[Any],
        num_envs: int,
        *,
        array: str = "numpy",
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise InvalidInputError(f"num_envs must be a whole number >= 1, got {num_envs!r}")
        if array not in ARRAYS:
            raise unknown_name("array kind", array, ARRAYS)
        if render_mode not in (None, "rgb_array"):
            raise unknown_name("render mode", str(render_mode), ("rgb_array",))
        self.task = task
        self.num_envs = num_envs
        self.array = array
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.render_mode = render_mode
        self.metadata = {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": ["rgb_array"],
            "render_fps": round(task.control_rate),
        }
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(task.observation_space, num_envs)
        self.action_space = batch_space(task.action_space, num_envs)
        self._environment = torch.arange(num_envs)
        self._episode = torch.zeros(num_envs, dtype=torch.int64)
        self._ended = torch.zeros(num_envs, dtype=torch.bool)
        self._seen: dict[str, Tensor] | None = None
        self.state: Any = None

    @one_thread()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start new episodes: everywhere, or where ``options["reset_mask"]`` (envs,) bool holds, touching no other.

        A ``seed`` starts every stream over at episode 0, so it excludes a mask; without one the streams go on.
        """
        mask = self._reset_mask((options or {}).get("reset_mask"))
        if seed is not None:
            self._reseed(seed, mask)
        elif self.state is not None:
            self._episode = self._episode + mask
        observation = self._observe_only(self._begin(mask))
        return self._hand_out(observation), self._hand_out(self.task.measure(self.state))

    @one_thread()
    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        """One control step everywhere; ``actions`` (envs, actions) in [-1, 1], clipped.

        Reward terms are in ``info["reward/<term>"]``, the cost in ``info["cost"]``, its causes in
        ``info["cost/<cause>"]``. Raises :class:`InvalidInputError` for a wrong shape, a NaN, a step before
        :meth:`reset`, or (without autoreset) a step of an episode that has ended.
        """
        action = self._action(actions)
        before, pending = self.state, self._ended
        sim = self.task.simulator.step(before.sim, self.task.command(action))
        self.state = after = self.task.advance(before, sim)
        terms = {f"reward/{name}": value for name, value in self.task.reward(before, after).items()}
        causes = {f"cost/{name}": value for name, value in self.task.cost(before, after).items()}
        terminated = self.task.terminated(after)
        truncated = (after.sim.step_count >= self.task.horizon) & ~terminated
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            terminated, truncated = terminated & ~pending, truncated & ~pending
            terms = {name: value.masked_fill(pending, 0.0) for name, value in terms.items()}
            causes = {name: value.masked_fill(pending, 0.0) for name, value in causes.items()}
        self._ended = terminated | truncated
        flows = {**terms, **causes, "cost": _total(causes, self.num_envs)}
        observation, info = self._look(pending, flows)
        reward = _total(terms, self.num_envs)
        return observation, *(self._give(value) for value in (reward, terminated, truncated)), info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The beam-space images of all environments, uint8 (samples, lines, 3) each, if ``render_mode`` is set."""
        if self.render_mode is None or self.state is None:
            return None
        beam = self.task.simulator.render(self.state.sim).beam[:, 0]
        return tuple(beam[:, :, :, None].expand(-1, -1, -1, 3).cpu().numpy().copy())

    def _look(self, pending: Tensor, flows: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Observation and info after a step, with the resets that the autoreset mode asks for."""
        rows = self._environment[:0]
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and bool(pending.any()):
            self._episode = self._episode + pending
            rows = self._begin(pending)
        observation = self._observe(rows)
        info = {**self.task.measure(self.state), **flows}
        if self.autoreset_mode is not AutoresetMode.SAME_STEP or not bool(self._ended.any()):
            return self._hand_out(observation), self._hand_out(info)
        final = self._final(observation, info)
        self._episode = self._episode + self._ended
        observation = self._observe_only(self._begin(self._ended))
        return self._hand_out(observation), self._hand_out({**self.task.measure(self.state), **flows}) | final

    def _begin(self, mask: Tensor) -> Tensor:
        """New episodes where ``mask`` holds; their rows."""
        rows = mask.nonzero()[:, 0]
        seed = self.np_random_seed or 0
        streams = Streams(seed, self._environment[rows], self._episode[rows], torch.zeros_like(rows))
        fresh = self.task.begin(self.task.simulator.reset(self.task.sample(streams)))
        self.state = fresh if self.state is None else put(self.state, rows, fresh)
        self._ended = self._ended & ~mask
        return rows

    def _observe(self, fresh: Tensor) -> dict[str, Tensor]:
        """What is seen everywhere now; the image memory of ``fresh`` rows starts anew."""
        observation = self._see(self.state)
        if "image" in observation:
            before = None if self._seen is None else self._seen["image"]
            observation["image"] = remember(before, observation["image"], self.task.image_stack, fresh)
        self._seen = observation
        return observation

    def _observe_only(self, rows: Tensor) -> dict[str, Tensor]:
        """The last observation with ``rows``, whose episodes just began, seen anew."""
        if self._seen is None or len(rows) == self.num_envs:
            return self._observe(rows)
        fresh = self._see(take(self.state, rows))
        if "image" in fresh:
            fresh["image"] = remember(None, fresh["image"], self.task.image_stack, rows)
        self._seen = {name: value.index_copy(0, rows, fresh[name]) for name, value in self._seen.items()}
        return self._seen

    def _see(self, state: Any) -> dict[str, Tensor]:
        frame = self.task.simulator.render(state.sim) if self.task.needs_frame else None
        return self.task.observe(state, frame)

    def _final(self, observation: dict[str, Tensor], info: Mapping[str, Tensor]) -> dict[str, Any]:
        ended = self._give(self._ended)
        handed = self._hand_out(observation)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in self._ended.nonzero()[:, 0].tolist():
            final_obs[row] = {name: value[row] for name, value in handed.items()}
        return {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": self._hand_out(info),
            "_final_info": ended,
        }

    def _reset_mask(self, mask: Any) -> Tensor:
        if mask is None or self.state is None:
            return torch.ones(self.num_envs, dtype=torch.bool)
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool or mask.shape != (self.num_envs,) or not bool(mask.any()):
            raise InvalidInputError(
                f"reset_mask must be {self.num_envs} booleans, at least one true, got {mask.dtype} {tuple(mask.shape)}"
            )
        return mask

    def _reseed(self, seed: int, mask: Tensor) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < _SEED_LIMIT:
            raise InvalidInputError(f"seed must be one whole number in [0, 2^63), got {seed!r}")
        if not bool(mask.all()):
            raise InvalidInputError("a seed starts the streams of all environments over: leave out seed or reset_mask")
        super().reset(seed=int(seed))
        self._episode = torch.zeros_like(self._episode)
        self._seen = None

    def _action(self, actions: Any) -> Tensor:
        if self.state is None:
            raise InvalidInputError("call reset() before step()")
        if self.autoreset_mode is AutoresetMode.DISABLED and bool(self._ended.any()):
            rows = self._ended.nonzero()[:, 0].tolist()
            raise InvalidInputError(f"episodes {rows} have ended: call reset(options={{'reset_mask': ...}}) first")
        action = torch.as_tensor(actions, dtype=torch.float32)
        if action.shape != self.action_space.shape:
            raise InvalidInputError(f"actions must have shape {self.action_space.shape}, got {tuple(action.shape)}")
        if not bool(torch.isfinite(action).all()):
            raise InvalidInputError("actions hold NaN or infinity")
        return action.clamp(-1.0, 1.0)

    def _give(self, value: Tensor) -> Any:
        return value if self.array == "torch" else value.cpu().numpy()

    def _hand_out(self, values: Mapping[str, Tensor]) -> dict[str, Any]:
        return {name: self._give(value) for name, value in values.items()}


def _total(terms: Mapping[str, Tensor], count: int) -> Tensor:
    return torch.stack(list(terms.values())).sum(0) if terms else torch.zeros(count)


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    names = {item.name.lower(): item for item in AutoresetMode}
    key = mode.lower()
    if key not in names:
        raise unknown_name("autoreset mode", mode, names)
    return names[key]

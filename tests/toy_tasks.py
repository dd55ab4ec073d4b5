"""Tiny tasks with known answers that stand in for sonogym's: what learners and evaluation must manage on them."""

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

SIDE = 24
STEP = 0.003
REACH = 0.02
HORIZON = 20
PATIENTS = 4


class DotEnv(VectorEnv):
    """A dot in the image shows where the goal lies; the action moves towards it. Three axes, the last one an angle."""

    def __init__(self, num_envs=1, patients="all", patient_count=1, dot=True, **unknown):
        if unknown:
            raise TypeError(f"unexpected keyword arguments {sorted(unknown)}")
        self.num_envs = num_envs
        self.dot = dot
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = gymnasium.spaces.Dict(
            image=gymnasium.spaces.Box(0, 255, (1, SIDE, SIDE), np.uint8),
            probe_pose=gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32),
        )
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.speed = np.array([STEP, STEP, np.deg2rad(3.0)], np.float32)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.generator = np.random.default_rng(seed)
        self.goal = np.zeros((self.num_envs, 3), np.float32)
        self.moved = np.zeros((self.num_envs, 3), np.float32)
        self.time = np.zeros(self.num_envs, np.int64)
        self._restart(np.ones(self.num_envs, bool))
        return self._observe(), self._info()

    def _restart(self, mask):
        reach = np.array([REACH, REACH, 0.15], np.float32)
        draw = self.generator.uniform(-1.0, 1.0, (self.num_envs, 3)).astype(np.float32) * reach
        self.goal[mask] = draw[mask]
        self.moved[mask] = 0.0
        self.time[mask] = 0

    def _observe(self):
        image = np.zeros((self.num_envs, 1, SIDE, SIDE), np.uint8)
        if self.dot:
            left = self.goal - self.moved
            columns = np.clip(SIDE / 2 + 9 * left[:, 0] / REACH, 1, SIDE - 2).astype(int)
            rows = np.clip(SIDE / 2 + 9 * left[:, 1] / REACH, 1, SIDE - 2).astype(int)
            for i in range(self.num_envs):
                shade = int(np.clip(140 + 600 * left[i, 2], 30, 255))
                image[i, 0, rows[i] - 1 : rows[i] + 2, columns[i] - 1 : columns[i] + 2] = shade
        return {"image": image, "probe_pose": np.concatenate([self.moved, 0 * self.moved], axis=1)}

    def _info(self):
        left = self.goal - self.moved
        position = np.linalg.norm(left[:, :2], axis=1)
        angle = np.abs(left[:, 2])
        near = (position < 0.005) & (angle < np.deg2rad(5.0))
        return {
            "position_error": position,
            "angle_error": angle,
            "success": near,
            "level_hit": position < 0.01,
            "patient": np.arange(self.num_envs) % PATIENTS,
            "privileged": left,
            "cost": np.zeros(self.num_envs, np.float32),
        }

    def step(self, actions):
        before = np.linalg.norm((self.goal - self.moved) / self.speed, axis=1)
        self.moved += np.clip(np.asarray(actions), -1.0, 1.0) * self.speed
        self.time += 1
        reward = (before - np.linalg.norm((self.goal - self.moved) / self.speed, axis=1)).astype(np.float32)
        terminated = np.zeros(self.num_envs, bool)
        truncated = self.time >= HORIZON
        extra = {}
        if truncated.any():
            extra = {"final_obs": self._observe(), "final_info": self._info()}
            self._restart(truncated)
        return self._observe(), reward, terminated, truncated, {**self._info(), **extra}


def register(monkeypatch):
    """Make the task ``dot`` known for one test."""
    from sonogym import registry

    monkeypatch.setitem(registry.TASKS, "dot", "SonogymTest/Dot-v0")
    monkeypatch.setitem(
        gymnasium.registry,
        "SonogymTest/Dot-v0",
        gymnasium.envs.registration.EnvSpec("SonogymTest/Dot-v0", vector_entry_point=DotEnv),
    )

"""The SB3 adapter tells SB3 exactly what SB3's own vector environments would."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from toy_tasks import DotEnv

from sonogym.agents.sb3_adapter import GymnasiumVecEnv
from sonogym.errors import InvalidInputError

ENVS = 3


class Walk(gymnasium.Env):
    """A walk that terminates at +-3, or is truncated after 5 steps; its start is drawn from its own generator."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, dictionary):
        self.dictionary = dictionary
        box = gymnasium.spaces.Box(-10.0, 10.0, (2,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(place=box) if dictionary else box

    def _observe(self):
        values = np.array([self.place, self.time], np.float32)
        return {"place": values} if self.dictionary else values

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.time = self.np_random.uniform(-1.0, 1.0), 0
        return self._observe(), {"privileged": np.array([self.place], np.float32)}

    def step(self, action):
        self.place += float(action[0])
        self.time += 1
        info = {"privileged": np.array([self.place], np.float32)}
        return self._observe(), self.place, abs(self.place) > 2.0, self.time >= 5, info


class Identity(gymnasium.Env):
    """The reward is highest where the action equals the observed number."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.time = self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32), 0
        return self.number, {}

    def step(self, action):
        reward = -float(np.abs(action[0] - self.number[0]))
        self.number = self.np_random.uniform(-1.0, 1.0, 1).astype(np.float32)
        self.time += 1
        return self.number, reward, False, self.time >= 8, {}


def adapted(make, mode=AutoresetMode.SAME_STEP, **options):
    return GymnasiumVecEnv(SyncVectorEnv([make] * ENVS, autoreset_mode=mode), **options)


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
    return np.array_equal(a, b)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize("dictionary", [False, True])
def test_transitions_and_returns_equal_those_of_dummy_vec_env(dictionary, mode):
    ours = adapted(lambda: Walk(dictionary), mode)
    theirs = VecMonitor(DummyVecEnv([lambda: Walk(dictionary)] * ENVS))
    ours.seed(7), theirs.seed(7)
    assert same(ours.reset(), theirs.reset())
    generator = np.random.default_rng(0)
    ended = {True: 0, False: 0}
    for _ in range(60):
        actions = generator.uniform(-1.0, 1.0, (ENVS, 1)).astype(np.float32)
        (a, ra, da, ia), (b, rb, db, ib) = ours.step(actions), theirs.step(actions)
        assert same(a, b)
        assert np.array_equal(ra, rb)
        assert np.array_equal(da, db)
        for done, mine, yours in zip(da, ia, ib, strict=True):
            assert mine["TimeLimit.truncated"] == yours["TimeLimit.truncated"]
            if done:
                ended[mine["TimeLimit.truncated"]] += 1
                assert same(mine["terminal_observation"], yours["terminal_observation"])
                assert mine["episode"]["l"] == yours["episode"]["l"]
                assert mine["episode"]["r"] == pytest.approx(yours["episode"]["r"], abs=1e-5)
    assert min(ended.values()) > 3


def test_handed_out_observations_are_not_overwritten_by_the_next_step():
    env = GymnasiumVecEnv(SyncVectorEnv([Identity] * ENVS, copy=False, autoreset_mode=AutoresetMode.SAME_STEP))
    before = env.reset()
    kept = before.copy()
    env.step(np.zeros((ENVS, 1), np.float32))
    assert np.array_equal(before, kept)


def test_privileged_numbers_are_those_of_the_observed_state_at_ends_too():
    env = adapted(lambda: Walk(True), privileged=1)
    observation = env.reset()
    for _ in range(12):
        assert np.allclose(observation["privileged"][:, 0], observation["place"][:, 0])
        observation, _, done, infos = env.step(np.full((ENVS, 1), 0.9, np.float32))
        for index in np.flatnonzero(done):
            last = infos[index]["terminal_observation"]
            assert last["privileged"][0] == pytest.approx(last["place"][0])


def test_final_errors_come_from_the_episode_that_ended():
    env = GymnasiumVecEnv(DotEnv(2), privileged=3)
    env.seed(0)
    observation = env.reset()
    while True:
        observation, _, done, infos = env.step(np.clip(observation["privileged"] / env.env.speed, -1.0, 1.0))
        if done.all():
            break
    assert all(info["is_success"] and info["episode"]["position_error"] < 1e-4 for info in infos)
    assert np.abs(observation["privileged"]).max() > 1e-3


def test_next_step_autoreset_and_undeclared_modes_are_refused():
    with pytest.raises(InvalidInputError, match="NEXT_STEP"):
        adapted(Identity, AutoresetMode.NEXT_STEP)
    env = DotEnv(1)
    env.metadata = {}
    with pytest.raises(InvalidInputError, match="autoreset_mode"):
        GymnasiumVecEnv(env)


def test_ppo_learns_the_identity_through_the_adapter():
    threads = torch.get_num_threads()
    env = adapted(Identity)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=10, gamma=0.0, learning_rate=3e-3, seed=0)
    model.learn(2500)
    numbers = np.linspace(-0.9, 0.9, 7, dtype=np.float32)[:, None]
    actions, _ = model.predict(numbers, deterministic=True)
    assert np.abs(actions - numbers).mean() < 0.15
    assert torch.get_num_threads() == threads

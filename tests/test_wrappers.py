"""The 6-tuple of Safety-Gymnasium around single and vector environments."""

import gymnasium
import numpy as np
import pytest
from rig_fixtures import make

from sonogym.envs.single_env import SonogymEnv
from sonogym.envs.wrappers import CostEnv, CostVectorEnv
from sonogym.errors import InvalidInputError


def test_vector_step_hands_out_the_cost_beside_the_reward():
    plain, wrapped = make(3, robot=None), CostVectorEnv(make(3, robot=None))
    for env in (plain, wrapped):
        env.reset(seed=0)
    action = np.tile(np.float32([0, 1, 0]), (3, 1))
    for _ in range(3):
        seen, reward, cost, terminated, truncated, info = wrapped.step(action)
        other = plain.step(action)
        assert (cost == info["cost"]).all()
        assert (reward == other[1]).all()
        assert (terminated == other[2]).all()
        assert (seen["force"] == other[0]["force"]).all()
        assert not truncated.any()


def test_single_step_hands_out_a_number():
    env = CostEnv(SonogymEnv(make(1, robot=None, action_mode="twist").task))
    env.reset(seed=0)
    costs = []
    for _ in range(12):
        *_, cost, terminated, _, info = env.step(np.float32([0, 0, 1, 0, 0, 0]))
        assert isinstance(cost, float)
        assert cost == pytest.approx(float(info["cost"]))
        costs.append(cost)
        if terminated:
            break
    assert costs[0] == 0.0
    assert costs[-1] > 0.0


def test_an_environment_without_cost_is_refused():
    env = CostEnv(gymnasium.make("CartPole-v1"))
    env.reset(seed=0)
    with pytest.raises(InvalidInputError, match="reports no info"):
        env.step(0)

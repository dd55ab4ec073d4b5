"""DAgger (Ross, Gordon & Bagnell 2011): imitate the privileged expert on the states the learner itself visits."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from sonogym.errors import InvalidInputError

from .budget import Budget
from .curves import EpisodeCurve, Progress
from .environment import observation_arrays, require_same_step
from .experts import PRIVILEGED, ExpertPolicy
from .learned import action_size, observation_spec, read_policy, tensors, write_policy
from .networks import GOAL_SIZE, PolicyNetwork, lay_out
from .policy import weights_file
from .recipes import RunConfig
from .replay import Replay
from .run_folder import RunFolder

# 5 cm and half a radian are one unit of the goal head; farther goals are held at three
GOAL_UNIT = (0.05, 0.05, 0.5)
GOAL_LIMIT = 3.0
WARM_UP_BATCHES = 4


class Dagger:
    """One run: the learner, its averaged copy, the replay and the environment it steps."""

    def __init__(self, config: RunConfig, folder: RunFolder, env: VectorEnv, budget: Budget) -> None:
        require_same_step(env)
        self.config, self.options, self.folder, self.env, self.budget = config, config.dagger, folder, env, budget
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.generator = np.random.default_rng([config.seed, budget.steps])
        self.learner = PolicyNetwork(observation_spec(env), action_size(env), config.network).to(self.device)
        lay_out(self.learner)
        self.optimizer = torch.optim.AdamW(
            self.learner.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay
        )
        if config.init:
            self._warm_start(config.init)
        self.average = copy.deepcopy(self.learner)
        self.updates = 0
        self._resume()
        self.expert = ExpertPolicy(env)
        stream = torch.Generator().manual_seed(int(self.generator.integers(2**62)))
        self.replay = Replay(self.options.capacity, env.num_envs, stream)
        self.curve = EpisodeCurve(env.num_envs)
        self.time = self.options.sequence if self.learner.state_size else 1

    def run(self) -> None:
        """Collect and train until the budget is spent or interrupted; the policy and a checkpoint lie in the folder."""
        seed = int(self.generator.integers(2**31 - 1))
        observation: Mapping[str, Any]
        info: Mapping[str, Any]
        observation, info = self.env.reset(seed=seed)
        first = np.ones(self.env.num_envs, dtype=bool)
        state = torch.zeros(self.env.num_envs, self.learner.state_size)
        saved = time.monotonic()
        with Progress(self.budget, "dagger") as progress:
            while not self.budget.finished:
                for _ in range(self.options.rollout):
                    observation, info, first, state = self._step(observation, info, first, state)
                loss = self._learn()
                progress.update(self._log(loss))
                if time.monotonic() - saved > 60.0 * self.config.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
        self.save()
        self.folder.close()

    def _step(
        self, observation: Mapping[str, Any], info: Mapping[str, Any], first: np.ndarray, state: Tensor
    ) -> tuple[Mapping[str, Any], Mapping[str, Any], np.ndarray, Tensor]:
        """One step of all environments under the mixture of learner and expert, labelled by the expert."""
        seen = tensors(observation_arrays(observation), self.learner.spec, torch.device("cpu"))
        state = state * (~torch.from_numpy(first)).unsqueeze(1)
        label = self.expert.act(observation, info)
        goal = np.array(info[PRIVILEGED], dtype=np.float32)[:, :GOAL_SIZE]
        with torch.inference_mode():
            inputs = {name: value.to(self.device) for name, value in seen.items()}
            action, _, after = self.learner.step(inputs, state.to(self.device))
        terms = {"first": torch.from_numpy(first), "action": torch.from_numpy(label), "goal": torch.from_numpy(goal)}
        self.replay.add(seen, state=state, **terms)
        lead = self.generator.random(self.env.num_envs) < self.beta
        taken = np.where(lead[:, None], label, action.clamp(-1.0, 1.0).cpu().numpy())
        observation, reward, terminated, truncated, info = self.env.step(taken)
        done = np.asarray(terminated) | np.asarray(truncated)
        self.curve.add(reward, done, info)
        self.budget.steps += self.env.num_envs
        return observation, info, done.copy(), after.cpu().clone()

    @property
    def beta(self) -> float:
        """Probability that the expert acts."""
        share = min(self.budget.fraction / max(self.options.beta_fraction, 1e-9), 1.0)
        return 1.0 + share * (self.options.beta - 1.0)

    def _learn(self) -> dict[str, float]:
        """Train on what was kept; nothing before the replay holds a few batches."""
        options = self.options
        if self.replay.size < self.time or self.replay.size * self.env.num_envs < WARM_UP_BATCHES * options.batch:
            return {}
        updates = max(round(options.replay * options.rollout * self.env.num_envs / options.batch), 1)
        rate = self.budget.decayed(options.learning_rate, options.final_learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums = torch.zeros(2)
        for _ in range(updates):
            sums += self._update()
        return {"loss/action": float(sums[0]) / updates, "loss/goal": float(sums[1]) / updates, "learning_rate": rate}

    def _update(self) -> Tensor:
        """One gradient step; (2,) losses of action and goal."""
        drawn = self.replay.draw(self.time, max(self.options.batch // self.time, 1))
        observation = {name: value.to(self.device) for name, value in drawn.observation.items()}
        action, goal = self.learner.sequence(observation, drawn.first.to(self.device), drawn.state.to(self.device))
        burn_in = self.options.burn_in if self.time > self.options.burn_in else 0
        target = (drawn.goal / torch.tensor(GOAL_UNIT)).clamp(-GOAL_LIMIT, GOAL_LIMIT).to(self.device)
        action_loss = nn.functional.mse_loss(action[burn_in:], drawn.action.to(self.device)[burn_in:])
        goal_loss = nn.functional.smooth_l1_loss(goal[burn_in:], target[burn_in:])
        self.optimizer.zero_grad(set_to_none=True)
        (action_loss + self.options.goal_weight * goal_loss).backward()
        nn.utils.clip_grad_norm_(self.learner.parameters(), 1.0)
        self.optimizer.step()
        self.updates += 1
        # a young average would remember the random start, so its decay grows with the updates
        decay = min(self.options.average, self.updates / (self.updates + 10.0))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.learner.parameters(), strict=True):
                slow.lerp_(fast, 1.0 - decay)
        return torch.stack([action_loss.detach(), goal_loss.detach()]).cpu()

    def _log(self, loss: Mapping[str, float]) -> dict[str, float]:
        row = self.curve.row(self.budget, {**loss, "beta": self.beta, "updates": float(self.updates)})
        if row:
            self.folder.log(row)
        return row

    def save(self) -> None:
        """Checkpoint (learner, average, optimiser) and the averaged policy."""
        weights = {f"learner.{key}": value for key, value in self.learner.state_dict().items()}
        weights |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        facts = {"steps": self.budget.steps, "seconds": self.budget.seconds, "updates": self.updates}
        self.folder.save_checkpoint(weights, self.optimizer.state_dict(), facts)
        training = {"algorithm": "dagger", "seed": self.config.seed, "patients": self.config.patients, **facts}
        write_policy(self.folder.policy_file, self.average, self.config.task, self.config.environment, training)

    def _resume(self) -> None:
        checkpoint = self.folder.load_checkpoint()
        if checkpoint is None:
            return
        weights, optimizer, facts = checkpoint
        for name, network in (("learner.", self.learner), ("average.", self.average)):
            own = {key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)}
            network.load_state_dict(own)
        self.optimizer.load_state_dict(optimizer)
        self.updates = facts["updates"]

    def _warm_start(self, init: str) -> None:
        network, _ = read_policy(weights_file(init), self.config.task, self.env)
        if network.config != self.config.network:
            raise InvalidInputError(f"--init {init}: its network {network.config} differs from {self.config.network}")
        self.learner.load_state_dict(network.state_dict())

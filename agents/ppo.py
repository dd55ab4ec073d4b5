"""stable-baselines3 PPO with our network, an optional privileged critic, and runs that survive a kill."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from sonogym.errors import InvalidInputError

from .budget import Budget
from .curves import EpisodeCurve, Progress
from .learned import action_size, observation_spec, read_policy, write_policy
from .networks import Encoder, NetworkConfig, ObservationSpec, PolicyNetwork, lay_out
from .policy import weights_file
from .recipes import RunConfig
from .run_folder import RunFolder
from .sb3_adapter import GymnasiumVecEnv

CRITIC_WIDTH = 64
UNLIMITED = 10**12
# the goal's displacement reaches the critic in the units of the pose: decimetres and radians
PRIVILEGED_SCALE = 10.0


class SplitFeatures(BaseFeaturesExtractor):
    """The encoder's features, followed by the privileged numbers if the observation holds them."""

    def __init__(
        self, observation_space: gymnasium.spaces.Dict, spec: ObservationSpec, config: NetworkConfig, privileged: int
    ) -> None:
        encoder = Encoder(spec, config)
        super().__init__(observation_space, encoder.size + privileged)
        self.encoder = encoder
        self.privileged = privileged

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """(batch, features + privileged)."""
        features = self.encoder(observations)
        if not self.privileged:
            return features
        return torch.cat([features, PRIVILEGED_SCALE * observations["privileged"]], dim=1)


class AsymmetricHeads(nn.Module):
    """The actor reads the features alone; the critic also reads the privileged numbers behind them."""

    def __init__(self, features: int, privileged: int) -> None:
        super().__init__()
        self.features = features
        self.latent_dim_pi = features
        self.latent_dim_vf = CRITIC_WIDTH
        self.critic = nn.Sequential(
            nn.Linear(features + privileged, CRITIC_WIDTH), nn.ReLU(), nn.Linear(CRITIC_WIDTH, CRITIC_WIDTH), nn.ReLU()
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of actor and critic."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """Latent of the actor."""
        return features[:, : self.features]

    def forward_critic(self, features: Tensor) -> Tensor:
        """Latent of the critic."""
        return self.critic(features)


class AsymmetricPolicy(ActorCriticPolicy):
    """SB3's actor-critic over :class:`SplitFeatures`."""

    def _build_mlp_extractor(self) -> None:
        extractor = self.features_extractor
        assert isinstance(extractor, SplitFeatures)
        heads: Any = AsymmetricHeads(extractor.encoder.size, extractor.privileged)
        self.mlp_extractor = heads.to(self.device)


class PPORun:
    """One PPO run in its folder."""

    def __init__(self, config: RunConfig, folder: RunFolder, env: VectorEnv, budget: Budget) -> None:
        self.config, self.folder, self.env, self.budget = config, folder, env, budget
        self.spec = observation_spec(env)
        self.adapter = GymnasiumVecEnv(env, privileged=config.ppo.privileged)
        self.model = self._model()
        if config.init:
            self._warm_start(config.init)
        self._resume()

    def _model(self) -> PPO:
        options = self.config.ppo
        extractor = {"spec": self.spec, "config": self.config.network, "privileged": options.privileged}
        model = PPO(
            AsymmetricPolicy,
            self.adapter,
            learning_rate=lambda _: self.budget.decayed(options.learning_rate, options.final_learning_rate),
            n_steps=options.rollout,
            batch_size=options.batch,
            n_epochs=options.epochs,
            gamma=options.gamma,
            gae_lambda=options.gae_lambda,
            clip_range=options.clip,
            target_kl=options.target_kl or None,
            ent_coef=options.entropy,
            vf_coef=options.value_weight,
            device=self.config.device,
            seed=(self.config.seed * 1_000_003 + self.budget.steps) % (2**31 - 1),
            policy_kwargs={
                "features_extractor_class": SplitFeatures,
                "features_extractor_kwargs": extractor,
                "log_std_init": options.log_std,
                "normalize_images": False,
            },
        )
        model.num_timesteps = self.budget.steps
        lay_out(model.policy)
        return model

    def run(self) -> None:
        """Train until the budget is spent or interrupted; the policy and a checkpoint lie in the folder."""
        with Progress(self.budget, "ppo") as progress:
            curve = CurveWriter(self, progress)
            self.model.set_logger(Logger(folder=None, output_formats=[curve]))
            self.model.learn(UNLIMITED, callback=Watch(self, curve), log_interval=1, reset_num_timesteps=False)
            curve.flush()
        self.save()
        self.folder.close()

    def network(self) -> PolicyNetwork:
        """The actor as the network that policies are stored as."""
        policy = self.model.policy
        network = PolicyNetwork(self.spec, action_size(self.env), self.config.network)
        network.encoder.load_state_dict(policy.features_extractor.encoder.state_dict())  # type: ignore[union-attr,operator]
        network.action.load_state_dict(policy.action_net.state_dict())  # type: ignore[operator,union-attr]
        return network

    def save(self) -> None:
        """Checkpoint (actor, critic, optimiser) and the policy."""
        policy = self.model.policy
        facts = {"steps": self.budget.steps, "seconds": self.budget.seconds}
        # a shared extractor appears under several names; safetensors takes each tensor once
        weights = {k: v for k, v in policy.state_dict().items() if not k.startswith(("pi_features", "vf_features"))}
        self.folder.save_checkpoint(weights, policy.optimizer.state_dict(), facts)
        training = {"algorithm": "ppo", "seed": self.config.seed, "patients": self.config.patients, **facts}
        write_policy(self.folder.policy_file, self.network(), self.config.task, self.config.environment, training)

    def _resume(self) -> None:
        checkpoint = self.folder.load_checkpoint()
        if checkpoint is None:
            return
        weights, optimizer, _ = checkpoint
        shared = [name for name in self.model.policy.state_dict() if name.startswith(("pi_features", "vf_features"))]
        weights |= {name: weights[name.split("_", 1)[1]] for name in shared}
        self.model.policy.load_state_dict(weights)
        self.model.policy.optimizer.load_state_dict(optimizer)

    def _warm_start(self, init: str) -> None:
        """Start the actor from a policy of the same network without memory, such as a DAgger run's."""
        network, _ = read_policy(weights_file(init), self.config.task, self.env)
        if network.config != self.config.network:
            raise InvalidInputError(f"--init {init}: its network {network.config} differs from {self.config.network}")
        policy = self.model.policy
        policy.features_extractor.encoder.load_state_dict(network.encoder.state_dict())  # type: ignore[union-attr,operator]
        policy.action_net.load_state_dict(network.action.state_dict())  # type: ignore[operator,union-attr]


class CurveWriter(KVWriter):
    """SB3's logger output as rows of the run's curve."""

    def __init__(self, run: PPORun, progress: Progress) -> None:
        self.run = run
        self.progress = progress
        self.curve = EpisodeCurve(run.env.num_envs)
        self.train: dict[str, float] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Keep the learner's figures; a row every few seconds."""
        self.train |= {key: float(value) for key, value in key_values.items() if key.startswith("train/")}
        self.flush()

    def flush(self) -> None:
        """Write a row if one is due."""
        row = self.curve.row(self.run.budget, self.train)
        if row:
            self.run.folder.log(row)
        self.progress.update(row)

    def close(self) -> None:
        """Nothing is held open."""


class Watch(BaseCallback):
    """Counts steps, gathers episodes, saves, and ends the run when its budget is spent."""

    def __init__(self, run: PPORun, curve: CurveWriter) -> None:
        super().__init__()
        self.run = run
        self.writer = curve
        self.saved = time.monotonic()

    def _on_step(self) -> bool:
        self.run.budget.steps += self.training_env.num_envs
        for info in self.locals["infos"]:
            if "episode" in info:
                self.writer.curve.take(info["episode"])
        return not self.run.budget.finished

    def _on_rollout_start(self) -> None:
        if time.monotonic() - self.saved > 60.0 * self.run.config.checkpoint_minutes:
            self.run.save()
            self.saved = time.monotonic()

"""The network every learner here shares: small CNN and pose perceptron, optional memory, action and goal heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sonogym.errors import InvalidInputError, unknown_name

IMAGE = "image"
MEMORIES = ("none", "gru")
GOAL_SIZE = 3
KERNELS = (8, 3, 3)
STRIDES = (4, 2, 2)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the network; ``blind`` leaves the image out, ``memory`` is "none" or "gru"."""

    channels: tuple[int, ...] = (24, 48, 64)
    features: int = 256
    pose_features: int = 32
    memory: str = "none"
    memory_size: int = 128
    blind: bool = False

    def __post_init__(self) -> None:
        if self.memory not in MEMORIES:
            raise unknown_name("memory", self.memory, MEMORIES)
        if not 1 <= len(self.channels) <= len(KERNELS):
            raise InvalidInputError(f"channels must list 1 to {len(KERNELS)} layers, got {list(self.channels)}")
        sizes = (*self.channels, self.features, self.pose_features, self.memory_size)
        if min(sizes) < 1:
            raise InvalidInputError(f"network sizes must be at least 1, got {sizes}")


@dataclass(frozen=True, kw_only=True)
class ObservationSpec:
    """What the network reads: shape of every named array; only ``image`` has more than one axis."""

    shapes: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        for name, shape in self.shapes.items():
            if len(shape) != (3 if name == IMAGE else 1):
                raise InvalidInputError(
                    f"observation {name!r} has shape {shape}; {IMAGE!r} takes (channels, rows, columns), others (size,)"
                )

    @property
    def vectors(self) -> list[str]:
        """Names of the one-axis terms, in a fixed order."""
        return sorted(name for name in self.shapes if name != IMAGE)


class ImageEncoder(nn.Module):
    """Unpadded strided convolutions and one dense layer: uint8 (batch, k, rows, columns) -> (batch, features)."""

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, ...], features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = shape[0]
        for width, kernel, stride in zip(channels, KERNELS, STRIDES, strict=False):
            layers += [nn.Conv2d(before, width, kernel, stride), nn.ReLU()]
            before = width
        self.convolutions = nn.Sequential(*layers)
        self.flat_size = self._flat_size(shape)
        self.dense = nn.Sequential(nn.Linear(self.flat_size, features), nn.LayerNorm(features), nn.ReLU())

    def _flat_size(self, shape: tuple[int, ...]) -> int:
        try:
            with torch.no_grad():
                return int(self.convolutions(torch.zeros(1, *shape)).numel())
        except RuntimeError as error:
            raise InvalidInputError(f"image of shape {shape} is too small for the convolutions: {error}") from error

    def forward(self, image: Tensor) -> Float[Tensor, "batch features"]:
        """Features of ``image`` (uint8, or float in 0 .. 255)."""
        scaled = image.to(torch.float32).mul(1.0 / 255.0).contiguous(memory_format=torch.channels_last)
        return self.dense(self.convolutions(scaled).flatten(1))


def lay_out(network: nn.Module) -> None:
    """Store convolution weights channels last (a sixth faster on a CPU); done once the weights are initialised."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


class Encoder(nn.Module):
    """All terms of the observation -> (batch, ``size``) features."""

    def __init__(self, spec: ObservationSpec, config: NetworkConfig) -> None:
        super().__init__()
        self.vectors = spec.vectors
        self.image = None
        if IMAGE in spec.shapes and not config.blind:
            self.image = ImageEncoder(spec.shapes[IMAGE], config.channels, config.features)
        self.vector = None
        width = sum(spec.shapes[name][0] for name in self.vectors)
        if width:
            self.vector = nn.Sequential(
                nn.Linear(width, config.pose_features), nn.ReLU(), nn.Linear(config.pose_features, config.pose_features)
            )
        width = config.features * (self.image is not None) + config.pose_features * (self.vector is not None)
        if not width:
            raise InvalidInputError("a blind network needs a vector term such as 'probe_pose' beside the image")
        self.size = config.features
        self.mix = nn.Sequential(nn.Linear(width, self.size), nn.ReLU())

    def forward(self, observation: Mapping[str, Tensor]) -> Float[Tensor, "batch size"]:
        """Features of a batch of observations."""
        parts = []
        if self.image is not None:
            parts.append(self.image(observation[IMAGE]))
        if self.vector is not None:
            joined = torch.cat([observation[name].to(torch.float32) for name in self.vectors], dim=1)
            parts.append(torch.relu(self.vector(joined)))
        return self.mix(torch.cat(parts, dim=1))


class PolicyNetwork(nn.Module):
    """Encoder, optional GRU, action head in [-1, 1] units (unclipped) and goal head (the privileged displacement)."""

    def __init__(self, spec: ObservationSpec, action_size: int, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.encoder = Encoder(spec, config)
        self.memory = nn.GRUCell(self.encoder.size, config.memory_size) if config.memory == "gru" else None
        # the features bypass the memory, so that a fresh network learns what one frame shows at once
        width = self.encoder.size + (config.memory_size if self.memory is not None else 0)
        self.action = nn.Linear(width, action_size)
        self.goal = nn.Linear(width, GOAL_SIZE)

    @property
    def state_size(self) -> int:
        """Width of the recurrent state; 0 without memory."""
        return self.config.memory_size if self.memory is not None else 0

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Action (batch, actions) and goal (batch, 3) of the features."""
        return self.action(features), self.goal(features)

    def step(self, observation: Mapping[str, Tensor], state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: action (batch, actions), goal (batch, 3), next state (batch, state_size)."""
        features = self.encoder(observation)
        if self.memory is not None:
            state = self.memory(features, state)
            features = torch.cat([features, state], dim=1)
        return *self.heads(features), state

    def sequence(
        self, observation: Mapping[str, Tensor], first: Bool[Tensor, "time batch"], state: Float[Tensor, "batch state"]
    ) -> tuple[Float[Tensor, "time batch actions"], Float[Tensor, "time batch goals"]]:
        """Whole stretches (time, batch, ...); the state is cleared where ``first`` marks a new episode."""
        time, batch = first.shape
        features = self.encoder({name: value.flatten(0, 1) for name, value in observation.items()})
        if self.memory is not None:
            features = self._remember(features.unflatten(0, (time, batch)), first, state).flatten(0, 1)
        action, goal = self.heads(features)
        return action.unflatten(0, (time, batch)), goal.unflatten(0, (time, batch))

    def _remember(self, features: Tensor, first: Tensor, state: Tensor) -> Tensor:
        assert self.memory is not None
        keep = (~first).to(torch.float32).unsqueeze(2)
        states = []
        for frame, kept in zip(features, keep, strict=True):
            state = self.memory(frame, state * kept)
            states.append(state)
        return torch.cat([features, torch.stack(states)], dim=2)

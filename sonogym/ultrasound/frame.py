"""What a renderer takes and gives: settings, per-environment parameters, and the frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float, Int, UInt8
from torch import Tensor

from sonogym.anatomy.tissues import TISSUE_COUNT
from sonogym.errors import InvalidInputError, require_between, unknown_name
from sonogym.geometry import Pose
from sonogym.ultrasound.transducer import MAX_STEERING

OUTPUTS = ("beam", "bone_depth", "decibels", "envelope", "image", "iq", "labels", "transmission", "true_depth")
FEWEST_SCATTERERS = 0.05  # a resolution cell
LOUDEST_CLUTTER = 20.0  # dB re liver
DEEPEST_BREATH = 2.0  # full quiet breaths: deeper ones would fold the tissue under the ribs
BACKENDS = ("auto", "numba", "reference")
SAMPLINGS = ("nearest", "trilinear")
_BY_TISSUE = ("scatter_offset", "attenuation_factor")
_SHARED = ("depth", "line_position", "extent")  # fields of a frame that are the same for every environment


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """What to render. Lengths in metres.

    ``lines`` scan lines of ``samples`` samples down to ``depth`` (None: the probe's own); ``planes`` elevation planes;
    ``outputs`` are fields of :class:`Frame` to fill besides ``beam``; ``pitch`` is the voxel size of baked patients;
    ``image_size`` is (height, width) of the scan-converted image. The switches turn single effects off for measurement:
    ``contact`` (coupling and compression under the probe), ``walls`` (connective layers at organ boundaries),
    ``texture`` (tissue texture and striae), ``penumbra``, ``noise``. Five more are off unless asked for: ``refraction``
    (lines bend where the speed changes: :mod:`sonogym.ultrasound.refraction`),
    ``reverberation`` between the probe's face and strong interfaces, and in its lens where it lies dry, ``ring_down``
    below gas, ``comet_tails`` of sound that bounces within thin strong reflectors (all:
    :mod:`sonogym.ultrasound.long_paths`) and ``downshift`` (:mod:`sonogym.ultrasound.downshift`). ``lattice`` is the
    spacing of the scatterers (None: half the axial resolution). ``steering`` [rad] turns the lines of a
    linear probe towards +x.
    ``scatterers`` makes speckle sparse: that many of equal strength in a resolution cell (pulse x beam width at the
    transmit focus), at the same mean power; None is fully developed speckle. The number holds where the image plane
    lies along the voxel axes, on a lattice <= 1/4 of the cell's sides.

    ``frequency_factors`` and ``focus_factors`` multiply the probe's own centre frequency and transmit focus: each pair
    is one variant of the beam that :attr:`RenderParams.variant` picks, numbered with the focus running fastest. A
    variant costs about 16 bytes a sample and line for each thread, and its kernels.

    ``sampling="trilinear"`` makes a frame differentiable (docs/differentiable.md): tissue is the blend of the eight
    voxels around a point instead of the nearest one's, and echoes lie at their exact place. ``speckle=False`` then
    shows the mean power over all scatterers. Both are the reference's: the kernel has neither.
    Raises :class:`InvalidInputError` or :class:`UnknownNameError`.
    """

    lines: int = 512
    samples: int = 1024
    depth: float | None = None
    planes: int = 1
    outputs: tuple[str, ...] = ()
    pitch: float = 1.5e-3
    backend: str = "auto"
    image_size: tuple[int, int] = (512, 512)
    contact: bool = True
    walls: bool = True
    texture: bool = True
    penumbra: bool = True
    noise: bool = True
    reverberation: bool = False
    ring_down: bool = False
    comet_tails: bool = False
    refraction: bool = False
    downshift: bool = False
    lattice: float | None = None
    scatterers: float | None = None
    steering: float = 0.0
    frequency_factors: tuple[float, ...] = (1.0,)
    focus_factors: tuple[float, ...] = (1.0,)
    sampling: str = "nearest"
    speckle: bool = True

    def __post_init__(self) -> None:
        require_between("lines", self.lines, 8, 4096)
        require_between("samples", self.samples, 16, 8192)
        require_between("planes", self.planes, 1, 9)
        if self.planes % 2 == 0:
            raise InvalidInputError(f"planes must be odd, so that one lies in the image plane, got {self.planes}")
        require_between("pitch", self.pitch, 2e-4, 4e-3, "m", "millimetres?")
        if self.depth is not None:
            require_between("depth", self.depth, 5e-3, 0.30, "m", "millimetres?")
        if self.lattice is not None:
            require_between("lattice", self.lattice, 1e-5, 5e-3, "m", "millimetres?")
        require_between("steering", self.steering, -MAX_STEERING, MAX_STEERING, "rad", "degrees?")
        if self.scatterers is not None:
            require_between("scatterers", self.scatterers, FEWEST_SCATTERERS, 100.0, "a resolution cell")
        for size in self.image_size:
            require_between("image_size", size, 16, 4096, "pixels")
        check_factors("frequency_factors", self.frequency_factors)
        check_factors("focus_factors", self.focus_factors)
        for name in self.outputs:
            if name not in OUTPUTS:
                raise unknown_name("output", name, OUTPUTS)
        if self.backend not in BACKENDS:
            raise unknown_name("backend", self.backend, BACKENDS)
        self._check_sampling()

    def _check_sampling(self) -> None:
        if self.sampling not in SAMPLINGS:
            raise unknown_name("sampling", self.sampling, SAMPLINGS)
        if self.sampling == "trilinear" and self.backend == "numba":
            raise InvalidInputError("sampling 'trilinear' needs backend 'reference' (or 'auto'), got 'numba'")
        if not self.speckle and self.sampling != "trilinear":
            raise InvalidInputError("speckle=False needs sampling 'trilinear', got 'nearest'")
        if not self.speckle and (self.reverberation or self.ring_down):
            raise InvalidInputError("reverberation and ring_down need speckle: a mean power has no late echoes")
        if not self.speckle and "iq" in self.outputs:
            raise InvalidInputError("outputs cannot hold 'iq' where speckle=False: a mean power has no phase")


@dataclass(frozen=True, kw_only=True)
class RenderParams:
    """What may differ between environments and frames.

    ``gain`` [dB]; ``tgc`` [dB/cm/MHz one way]; ``dynamic_range`` [dB]; ``speckle_seed`` fixes the scatterers of the
    tissue; ``noise_seed`` the receiver noise of this frame. What is None is absent and costs nothing:
    ``scatter_offset`` [dB] is added to the echogenicity of each tissue, ``attenuation_factor`` multiplies its
    attenuation, ``clutter`` [dB re liver] is the haze at the probe's face, ``scatterers`` the number a resolution cell
    holds in place of :attr:`RenderConfig.scatterers` (more than the lattice has points are fully developed speckle),
    ``variant`` the beam used (see :class:`RenderConfig`; None: the first), ``breathing`` how far the patient has
    breathed in, in full quiet breaths (see :mod:`sonogym.anatomy.breathing`), ``venous_pressure`` [Pa] what holds veins
    open under the probe (see :mod:`sonogym.ultrasound.veins`; None: 10 mmHg), ``gel`` [m] the thickest layer of gel
    that couples (None: 2.5 mm), ``stiffness`` of the tissue under the face, in parts of what it is taken to be: those
    of :class:`~sonogym.robot.contact.ContactFactors`.
    """

    gain: Float[Tensor, " envs"]
    tgc: Float[Tensor, " envs"]
    dynamic_range: Float[Tensor, " envs"]
    speckle_seed: Int[Tensor, " envs"]
    noise_seed: Int[Tensor, " envs"]
    scatter_offset: Float[Tensor, "envs tissues"] | None = None
    attenuation_factor: Float[Tensor, "envs tissues"] | None = None
    clutter: Float[Tensor, " envs"] | None = None
    scatterers: Float[Tensor, " envs"] | None = None
    variant: Int[Tensor, " envs"] | None = None
    breathing: Float[Tensor, " envs"] | None = None
    venous_pressure: Float[Tensor, " envs"] | None = None
    gel: Float[Tensor, " envs"] | None = None
    stiffness: Float[Tensor, " envs"] | None = None

    @classmethod
    def default(cls, envs: int) -> RenderParams:
        """No gain, .6 dB/cm/MHz, 60 dB, seeds 0 (physics.md section 6)."""
        zero = torch.zeros(envs, dtype=torch.int64)
        return cls(
            gain=torch.zeros(envs),
            tgc=torch.full((envs,), 0.6),
            dynamic_range=torch.full((envs,), 60.0),
            speckle_seed=zero,
            noise_seed=zero.clone(),
        )

    def __post_init__(self) -> None:
        envs = self.gain.shape[:1]
        for name, value in vars(self).items():
            shape = (*envs, TISSUE_COUNT) if name in _BY_TISSUE else tuple(envs)
            if value is not None and tuple(value.shape) != shape:
                wanted = "(envs, tissues)" if name in _BY_TISSUE else "(envs,)"
                raise InvalidInputError(
                    f"{name} of the render parameters must have shape {wanted} = {shape}, got {tuple(value.shape)}"
                )
        if not bool((self.dynamic_range > 0).all()):
            raise InvalidInputError(f"dynamic_range must be > 0 dB, got {self.dynamic_range.tolist()}")
        if self.attenuation_factor is not None and not bool((self.attenuation_factor >= 0).all()):
            raise InvalidInputError(f"attenuation_factor must be >= 0, got {float(self.attenuation_factor.min())!r}")
        if self.scatterers is not None and not bool((self.scatterers >= FEWEST_SCATTERERS).all()):
            raise InvalidInputError(
                f"scatterers must be >= {FEWEST_SCATTERERS} a resolution cell, got {self.scatterers.tolist()}"
            )
        if self.clutter is not None and not bool((self.clutter <= LOUDEST_CLUTTER).all()):
            raise InvalidInputError(f"clutter must be <= {LOUDEST_CLUTTER} dB re liver, got {self.clutter.tolist()}")
        for name, unit in (("venous_pressure", " Pa"), ("gel", " m"), ("stiffness", "")):
            value = getattr(self, name)
            if value is not None and not bool((value > 0).all()):
                raise InvalidInputError(f"{name} must be > 0{unit}, got {value.tolist()}")
        if self.breathing is not None and not bool((self.breathing.abs() <= DEEPEST_BREATH).all()):
            raise InvalidInputError(
                f"breathing must be in [-{DEEPEST_BREATH:g}, {DEEPEST_BREATH:g}] full quiet breaths, got "
                f"{self.breathing.tolist()}"
            )

    def to(self, device: torch.device) -> RenderParams:
        """The parameters on ``device``."""
        if self.gain.device == device:
            return self
        moved: dict[str, Any] = {
            name: value if value is None else value.to(device) for name, value in vars(self).items()
        }
        return RenderParams(**moved)

    def __getitem__(self, rows: Int[Tensor, " picked"] | slice) -> RenderParams:
        """The parameters of some environments."""
        picked: dict[str, Any] = {name: value if value is None else value[rows] for name, value in vars(self).items()}
        return RenderParams(**picked)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Rendered frames. Rows are depth; fields not asked for are None.

    ``beam``: log-compressed, before scan conversion. ``envelope`` and ``iq`` are absolute: 1 is the RMS echo of
    unattenuated liver. ``decibels``: level relative to white, before it is clipped. ``transmission``: two-way pressure
    transmission, which serves as confidence map. ``labels``: tissue ids. ``true_depth``: distance [m] from the face
    along the line of what is shown at a sample, and ``bone_depth`` that of the first bone, inf where a line meets none.
    ``depth`` (samples,) and ``line_position`` (lines,) are the beam's metric axes: apparent depth [m], and angle [rad]
    or place [m].
    ``extent``: (left, right, bottom, top) of ``image`` [m] in the probe frame, None without an image.
    """

    beam: UInt8[Tensor, "envs 1 samples lines"]
    depth: Float[Tensor, " samples"]
    line_position: Float[Tensor, " lines"]
    iq: Complex[Tensor, "envs samples lines"] | None = None
    envelope: Float[Tensor, "envs samples lines"] | None = None
    decibels: Float[Tensor, "envs samples lines"] | None = None
    image: UInt8[Tensor, "envs 1 height width"] | None = None
    labels: UInt8[Tensor, "envs samples lines"] | None = None
    transmission: Float[Tensor, "envs samples lines"] | None = None
    true_depth: Float[Tensor, "envs samples lines"] | None = None
    bone_depth: Float[Tensor, "envs lines"] | None = None
    extent: tuple[float, float, float, float] | None = None

    @staticmethod
    def gather(frames: Sequence[Frame], order: Int[Tensor, " envs"]) -> Frame:
        """The environments of ``frames`` (of one renderer) one after another, then picked by ``order``."""
        first = frames[0]
        joined: dict[str, Any] = {
            name: torch.cat([getattr(frame, name) for frame in frames])[order]
            for name, value in vars(first).items()
            if name not in _SHARED and value is not None
        }
        return dataclasses.replace(first, **joined)


def check_factors(name: str, factors: tuple[float, ...]) -> None:
    """Raise :class:`InvalidInputError` unless ``factors`` are some numbers in [.3, 3], 1 being the probe's own."""
    if not factors:
        raise InvalidInputError(f"{name} must hold at least one factor (1.0 is the probe's own), got {factors!r}")
    for factor in factors:
        require_between(name, factor, 0.3, 3.0, "", "factors of the probe's own value, not Hz or metres")


@runtime_checkable
class FrameRenderer(Protocol):
    """Anything that turns probe poses into frames: the physical renderer or a learned one."""

    def render(
        self, patient_from_probe: Pose, anatomy_index: Int[Tensor, " envs"], params: RenderParams | None = None
    ) -> Frame:
        """Frames (envs, ...) seen from ``patient_from_probe`` (envs,) in the patients ``anatomy_index`` picks."""
        ...

"""The physical renderer: patients and a probe in, frames out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor

from sonogym.anatomy.anatomy import Anatomy, Body
from sonogym.anatomy.stack import VolumeStack
from sonogym.errors import InvalidInputError
from sonogym.geometry import Pose
from sonogym.ultrasound.acoustics import load_acoustics_table
from sonogym.ultrasound.bake import AcousticAnatomy, bake, load_acoustic
from sonogym.ultrasound.beam import BeamTables, beam_tables
from sonogym.ultrasound.frame import Frame, RenderConfig, RenderParams
from sonogym.ultrasound.kernels import FusedRenderer
from sonogym.ultrasound.lines import Lines, trace_lines
from sonogym.ultrasound.reference import decibels, display, render_reference
from sonogym.ultrasound.scan_conversion import ScanConverter
from sonogym.ultrasound.smooth import RULES
from sonogym.ultrasound.transducer import Transducer, load_probe


class Renderer:
    """Renders frames of many poses at once (physics.md sections 2 to 6, without refraction and reverberation).

    ``patients`` are names or folders (see :mod:`sonogym.anatomy.library`), anatomies, or baked ones; ``probe`` a
    preset's name or a transducer. Attributes: ``transducer``, ``variants`` (the transducer at each frequency and focus
    of the configuration), ``config``, ``bodies`` (one a patient), ``voxels`` and ``skin`` (:class:`VolumeStack`). The
    frame of an environment does not depend on the rest of the batch.
    Raises :class:`InvalidInputError` for an empty list or a device that is missing or that the backend cannot use.
    """

    def __init__(
        self,
        patients: Sequence[str | Anatomy | AcousticAnatomy],
        probe: str | Transducer,
        config: RenderConfig | None = None,
        device: str = "cpu",
    ) -> None:
        self.config = config or RenderConfig()
        self.transducer = load_probe(probe) if isinstance(probe, str) else probe
        self.device = _device(device)
        self.backend = _backend(self.config, self.device)
        self._rule = RULES[self.config.sampling, self.config.speckle]
        baked = [_acoustic(patient, self.config.pitch) for patient in patients]
        self.bodies: list[Body] = list(baked)
        self.voxels = VolumeStack.from_volumes([body.voxels for body in baked], device)
        self.skin = VolumeStack.from_volumes([body.skin.distance for body in baked], device)
        self.depth = self.config.depth or self.transducer.depth
        self.variants = tuple(
            self.transducer.driven(frequency, focus)
            for frequency, focus in itertools.product(self.config.frequency_factors, self.config.focus_factors)
        )
        self._tables = [
            beam_tables(beam, self.config, load_acoustics_table()).to(self.device) for beam in self.variants
        ]
        origin, direction = self.transducer.scanlines(self.config.lines)
        self._scanlines = (origin.to(self.device), direction.to(self.device))
        self._fused = [self._fused_path(tables) for tables in self._tables]
        self._converter = self._scan_converter()

    def render(
        self, patient_from_probe: Pose, anatomy_index: Int[Tensor, " envs"], params: RenderParams | None = None
    ) -> Frame:
        """Frames of ``patient_from_probe`` (envs,) in the patients that ``anatomy_index`` (envs,) picks."""
        envs = len(anatomy_index)
        params = params or RenderParams.default(envs)
        self._check(patient_from_probe, anatomy_index, params)
        if len(self.variants) == 1 or params.variant is None:
            return self._render_variant(0, patient_from_probe, anatomy_index, params)
        order = params.variant.argsort(stable=True)
        groups = enumerate(order.split(params.variant.bincount().tolist()))
        frames = [
            self._render_variant(variant, patient_from_probe[rows], anatomy_index[rows], params[rows])
            for variant, rows in groups
            if len(rows)
        ]
        return Frame.gather(frames, order.argsort())

    def _render_variant(self, variant: int, pose: Pose, index: Int[Tensor, " envs"], params: RenderParams) -> Frame:
        """Frames of environments that share one beam."""
        lines = trace_lines(
            pose, index, params, self.variants[variant], self._scanlines,
            self._tables[variant], self.voxels, self.skin if self.config.contact else None,
        )  # fmt: skip
        return self._frame(self._run(variant, lines))

    def _check(self, pose: Pose, index: Tensor, params: RenderParams) -> None:
        envs = len(index)
        if pose.translation.shape != (envs, 3):
            raise InvalidInputError(
                f"patient_from_probe must have batch shape ({envs},) like anatomy_index, got "
                f"{tuple(pose.translation.shape[:-1])}"
            )
        if params.gain.shape != (envs,):
            raise InvalidInputError(f"render parameters are for {len(params.gain)} environments, poses for {envs}")
        if self.device.type == "cpu" and envs and not 0 <= int(index.min()) <= int(index.max()) < len(self.bodies):
            raise InvalidInputError(f"anatomy_index must be in 0 .. {len(self.bodies) - 1}, got {index.tolist()}")
        self._check_gradients(pose, params)
        variant, count = params.variant, len(self.variants)
        if variant is not None and envs and not 0 <= int(variant.min()) <= int(variant.max()) < count:
            raise InvalidInputError(
                f"variant must be in 0 .. {count - 1}, got {variant.tolist()}; RenderConfig's frequency_factors and "
                f"focus_factors make variants"
            )

    def _check_gradients(self, pose: Pose, params: RenderParams) -> None:
        inputs = (pose.quaternion, pose.translation, *vars(params).values())
        if self.config.sampling == "nearest" and any(value is not None and value.requires_grad for value in inputs):
            raise InvalidInputError(
                "gradients need RenderConfig(sampling='trilinear'), got 'nearest'; or detach the input"
            )

    def _run(self, variant: int, lines: Lines) -> dict[str, Tensor | None]:
        """Fields of a frame; those that are not asked for may be missing."""
        fused = self._fused[variant]
        return self._run_reference(lines, self._tables[variant]) if fused is None else self._run_fused(fused, lines)

    def _run_reference(self, lines: Lines, tables: BeamTables) -> dict[str, Tensor | None]:
        seen = render_reference(self.voxels.flat, lines, tables, self._rule)
        return {
            "beam": display(seen.decibels, lines.dynamic_range),
            "iq": seen.iq,
            "envelope": seen.power.sqrt() if seen.iq is None else seen.iq.abs(),
            "decibels": seen.decibels,
            "labels": seen.field.labels,
            "transmission": seen.field.transmission,
        }

    def _run_fused(self, fused: FusedRenderer, lines: Lines) -> dict[str, Tensor | None]:
        wanted = set(self.config.outputs)
        keep, keep_iq = bool(wanted & {"labels", "transmission"}), bool(wanted & {"iq", "envelope", "decibels"})
        beam, parts, labels, transmission = map(torch.from_numpy, fused(lines, keep, keep_iq))
        seen: dict[str, Tensor | None] = {"beam": beam}
        if keep:
            seen |= {"labels": labels, "transmission": transmission}
        if keep_iq:
            iq = torch.view_as_complex(parts)
            seen |= {"iq": iq, "envelope": iq.abs(), "decibels": decibels(parts.square().sum(-1), lines)}
        return seen

    def _frame(self, seen: dict[str, Tensor | None]) -> Frame:
        wanted, converter = self.config.outputs, self._converter
        linear = self.transducer.kind == "linear"
        beam = cast(Tensor, seen.pop("beam"))[:, None]
        kept: dict[str, Any] = {name: value for name, value in seen.items() if name in wanted}
        return Frame(
            beam=beam,
            depth=self._tables[0].ranges,
            line_position=self._scanlines[0][:, 0] if linear else self.transducer.angles(self.config.lines),
            image=None if converter is None else converter(beam),
            extent=None if converter is None else converter.extent,
            **kept,
        )

    def _fused_path(self, tables: BeamTables) -> FusedRenderer | None:
        if self.backend == "reference":
            return None
        return FusedRenderer(tables, self.voxels.flat.numpy(), self.config.samples, self.config.lines)

    def _scan_converter(self) -> ScanConverter | None:
        if "image" not in self.config.outputs:
            return None
        height, width = self.config.image_size
        config = self.config
        return ScanConverter(self.transducer, config.lines, config.samples, self.depth, height, width, str(self.device))


def _acoustic(patient: str | Anatomy | AcousticAnatomy, pitch: float) -> AcousticAnatomy:
    if isinstance(patient, AcousticAnatomy):
        return patient
    return bake(patient, pitch) if isinstance(patient, Anatomy) else load_acoustic(patient, pitch)


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError(f"device {name!r} is not available on this machine; use 'cpu'")
    return device


def _backend(config: RenderConfig, device: torch.device) -> str:
    name = config.backend
    if name == "auto":
        return "numba" if device.type == "cpu" and config.sampling == "nearest" else "reference"
    if name == "numba" and device.type != "cpu":
        raise InvalidInputError(f"backend 'numba' renders on 'cpu', got device {device}; use backend 'auto'")
    return name

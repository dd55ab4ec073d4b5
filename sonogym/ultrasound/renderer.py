"""The physical renderer: patients and a probe in, frames out."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace

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
from sonogym.ultrasound.ground_truth import bone_depth, true_depth
from sonogym.ultrasound.kernels import FusedRenderer
from sonogym.ultrasound.lines import Lines, trace_lines
from sonogym.ultrasound.reference import render_reference
from sonogym.ultrasound.requests import check_device, check_reach, check_request
from sonogym.ultrasound.scan_conversion import ScanConverter
from sonogym.ultrasound.transducer import Transducer, load_probe


class Renderer:
    """Renders frames of many poses at once (physics.md sections 2 to 6, without refraction).

    ``patients`` are names or folders (see :mod:`sonogym.anatomy.library`), anatomies, or baked ones; ``probe`` a
    preset's name or a transducer. Attributes: ``transducer``, ``variants`` (the transducer at each frequency and focus
    of the configuration), ``config``, ``converter`` (None without images), ``bodies`` (one a patient), ``voxels`` and
    ``skin`` (:class:`VolumeStack`). The frame of an environment does not depend on the rest of the batch.
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
        self.device = check_device(device)
        self.backend = _backend(self.config.backend, self.device)
        probe = load_probe(probe) if isinstance(probe, str) else probe
        self.transducer = replace(probe, steering=self.config.steering)
        baked = [_acoustic(patient, self.config.pitch) for patient in patients]
        self.bodies: list[Body] = list(baked)
        self.voxels = VolumeStack.from_volumes([body.voxels for body in baked], device)
        self.skin = VolumeStack.from_volumes([body.skin.distance for body in baked], device)
        self._build()

    def with_config(self, config: RenderConfig) -> Renderer:
        """This renderer with other settings; patients are shared and stay baked as they are, so ``pitch`` must agree.

        Raises :class:`InvalidInputError` for another ``pitch`` or backend.
        """
        if (config.pitch, config.backend) != (self.config.pitch, self.config.backend):
            raise InvalidInputError("pitch and backend belong to the patients as they are held: make a new renderer")
        other = copy.copy(self)
        other.config = config
        other.transducer = replace(self.transducer, steering=config.steering)
        other._build()
        return other

    def _build(self) -> None:
        """Everything that depends on the probe and the settings, and on no pose."""
        config, probe = self.config, self.transducer
        self.depth = config.depth or probe.depth
        self.variants = tuple(
            probe.driven(frequency, focus)
            for frequency, focus in itertools.product(config.frequency_factors, config.focus_factors)
        )
        self._tables = [beam_tables(beam, config, load_acoustics_table()).to(self.device) for beam in self.variants]
        self._overlap = _overlap(self._tables, config.lines) if probe.kind == "radial" else 0
        order = torch.arange(-self._overlap, config.lines + self._overlap).remainder(config.lines)
        origin, direction = probe.scanlines(config.lines)
        self._scanlines = (origin[order].to(self.device), direction[order].to(self.device))
        self._fused = [self._fused_path(tables) for tables in self._tables]
        self.converter = self._scan_converter()

    def render(
        self, patient_from_probe: Pose, anatomy_index: Int[Tensor, " envs"], params: RenderParams | None = None
    ) -> Frame:
        """Frames of ``patient_from_probe`` (envs,) in the patients that ``anatomy_index`` (envs,) picks."""
        envs = len(anatomy_index)
        params = params or RenderParams.default(envs)
        on_host = self.device.type == "cpu"
        counts = (len(self.bodies), len(self.variants))
        check_request(patient_from_probe, anatomy_index, params, counts, on_host)
        if on_host:
            check_reach(self.voxels, anatomy_index, patient_from_probe, self._scanlines, self.depth)
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
        in_contact = self.config.contact and not self.transducer.inserted
        lines = trace_lines(
            pose, index, params, self.variants[variant], self._scanlines,
            self._tables[variant], self.voxels, self.skin if in_contact else None,
        )  # fmt: skip
        return self._frame(*self._run(variant, lines))

    def _run(self, variant: int, lines: Lines) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Beam, iq, labels, transmission; what no output asks for may be empty."""
        fused = self._fused[variant]
        if fused is None:
            beam, iq, field = render_reference(self.voxels.flat, lines, self._tables[variant])
            return beam, iq, field.labels, field.transmission
        wanted = self.config.outputs
        keep = not {"labels", "transmission", "true_depth", "bone_depth"}.isdisjoint(wanted)
        keep_iq = "iq" in wanted or "envelope" in wanted
        beam, iq, labels, transmission = map(torch.from_numpy, fused(lines, keep, keep_iq))
        return beam, torch.view_as_complex(iq) if keep_iq else iq, labels, transmission

    def _frame(self, beam: Tensor, iq: Tensor, labels: Tensor, transmission: Tensor) -> Frame:
        wanted, converter = self.config.outputs, self.converter
        linear = self.transducer.kind == "linear"
        beam, depth, bone = self._once_round(beam), None, None
        if "true_depth" in wanted or "bone_depth" in wanted:
            depth = true_depth(labels, self._tables[0].tissue[:, 2], self._tables[0].step)
            bone = bone_depth(labels, depth)
        return Frame(
            beam=beam[:, None],
            depth=self._tables[0].ranges,
            line_position=self._scanlines[0][:, 0] if linear else self.transducer.angles(self.config.lines),
            iq=self._once_round(iq) if "iq" in wanted else None,
            envelope=self._once_round(iq).abs() if "envelope" in wanted else None,
            image=None if converter is None else converter(beam[:, None]),
            labels=self._once_round(labels) if "labels" in wanted else None,
            transmission=self._once_round(transmission) if "transmission" in wanted else None,
            true_depth=self._once_round(depth) if depth is not None and "true_depth" in wanted else None,
            bone_depth=self._once_round(bone) if bone is not None and "bone_depth" in wanted else None,
            extent=None if converter is None else converter.extent,
        )

    def _once_round(self, values: Tensor) -> Tensor:
        """The lines (last axis) of a closed circle without those marched twice."""
        return values[..., self._overlap : -self._overlap].contiguous() if self._overlap else values

    def _fused_path(self, tables: BeamTables) -> FusedRenderer | None:
        if self.backend == "reference":
            return None
        return FusedRenderer(tables, self.voxels.flat.numpy(), self.config.samples, len(self._scanlines[0]))

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


def _overlap(tables: Sequence[BeamTables], lines: int) -> int:
    """Lines of a closed circle marched twice on either side, so that both blurs find the true neighbours there."""
    return min(max(int(one.radius.max()) + int(one.penumbra_radius.max()) for one in tables), lines)


def _backend(name: str, device: torch.device) -> str:
    if name == "auto":
        return "numba" if device.type == "cpu" else "reference"
    if name == "numba" and device.type != "cpu":
        raise InvalidInputError(f"backend 'numba' renders on 'cpu', got device {device}; use backend 'auto'")
    return name

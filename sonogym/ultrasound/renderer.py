"""The physical renderer: patients and a probe in, frames out."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sonogym.anatomy.anatomy import Anatomy, Body
from sonogym.anatomy.breathing import breathing_field
from sonogym.anatomy.bricks import BrickStack
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
from sonogym.ultrasound.reference import decibels, display, render_reference
from sonogym.ultrasound.requests import FASTEST, check_device, check_reach, check_request
from sonogym.ultrasound.scan_conversion import ScanConverter
from sonogym.ultrasound.smooth import RULES
from sonogym.ultrasound.tracer import Tracer
from sonogym.ultrasound.transducer import Transducer, load_probe

_MAPS = ("labels", "transmission", "true_depth", "bone_depth")  # outputs that need the labels of every sample


class Renderer:
    """Renders frames of many poses at once (physics.md sections 2 to 6).

    ``patients`` are names or folders (see :mod:`sonogym.anatomy.library`), anatomies, or baked ones; ``probe`` a
    preset's name or a transducer; ``tissues`` the name of the tissue table. Attributes: ``transducer``, ``variants``
    (the transducer at each frequency and focus of the configuration), ``config``, ``converter`` (None without images),
    ``bodies`` (one a patient), ``voxels`` (:class:`BrickStack`), ``skin`` and ``bone`` (:class:`VolumeStack`). The
    frame of an environment does not depend on the rest of the batch.
    Raises :class:`InvalidInputError` for an empty list or a device that is missing or that the backend cannot use.
    """

    def __init__(
        self,
        patients: Sequence[str | Anatomy | AcousticAnatomy],
        probe: str | Transducer,
        config: RenderConfig | None = None,
        device: str = "cpu",
        tissues: str = "default",
    ) -> None:
        self.config = config or RenderConfig()
        self.device = check_device(device)
        self._table = load_acoustics_table(tissues)
        probe = load_probe(probe) if isinstance(probe, str) else probe
        self.transducer = replace(probe, steering=self.config.steering)
        baked = [_acoustic(patient, self.config.pitch, tissues) for patient in patients]
        self.bodies: list[Body] = list(baked)
        self._baked = baked
        self.voxels = BrickStack.from_volumes([body.voxels for body in baked], device)
        self.skin = VolumeStack.from_volumes([body.skin.distance for body in baked], device)
        self.bone = VolumeStack.from_volumes([body.bone for body in baked], device)
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
        self.backend = _backend(config, self.device)
        self._rule = RULES[config.sampling, config.speckle]
        self.depth = config.depth or probe.depth
        self._reach = FASTEST * self.depth + probe.width
        self.variants = tuple(
            probe.driven(frequency, focus)
            for frequency, focus in itertools.product(config.frequency_factors, config.focus_factors)
        )
        self._tables = [beam_tables(beam, config, self._table).to(self.device) for beam in self.variants]
        self._overlap = _overlap(self._tables, config.lines) if probe.kind == "radial" else 0
        order = torch.arange(-self._overlap, config.lines + self._overlap).remainder(config.lines)
        origin, direction = probe.scanlines(config.lines)
        self._scanlines = (origin[order].to(self.device), direction[order].to(self.device))
        self._line_position = (origin[:, 0] if probe.kind == "linear" else probe.angles(config.lines)).to(self.device)
        self._body = (self.skin, self.bone) if config.contact and not probe.inserted else None
        self._fused = [self._fused_path(*beam) for beam in zip(self.variants, self._tables, strict=True)]
        self.converter = self._scan_converter()

    @functools.cached_property
    def breathing(self) -> VolumeStack:
        """Displacement of a full breath of each patient (see :mod:`sonogym.anatomy.breathing`), made at first use."""
        fields = [breathing_field(body.tissues, body.skin) for body in self._baked]
        return VolumeStack.from_volumes(fields, str(self.device))

    def render(
        self, patient_from_probe: Pose, anatomy_index: Int[Tensor, " envs"], params: RenderParams | None = None
    ) -> Frame:
        """Frames of ``patient_from_probe`` (envs,) in the patients that ``anatomy_index`` (envs,) picks."""
        envs = len(anatomy_index)
        params = (params or RenderParams.default(envs)).to(self.device)
        patient_from_probe, anatomy_index = patient_from_probe.to(self.device), anatomy_index.to(self.device)
        on_host = self.device.type == "cpu"
        counts = (len(self.bodies), len(self.variants))
        check_request(patient_from_probe, anatomy_index, params, counts, on_host)
        self._check_sampling(patient_from_probe, params)
        if on_host:
            check_reach(self.voxels, anatomy_index, patient_from_probe, self._reach)
        if len(self.variants) == 1 or params.variant is None or not envs:
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
        path, tables = self._fused[variant], self._tables[variant]
        breathing = None if params.breathing is None else self.breathing
        if path is not None:
            return self._frame(self._run_fused(path, pose, index, params, breathing))
        beam, body = self.variants[variant], self._body
        lines = trace_lines(pose, index, params, beam, self._scanlines, tables, self.voxels, body, breathing)
        return self._frame(self._run_reference(lines, tables))

    def _check_sampling(self, pose: Pose, params: RenderParams) -> None:
        inputs = (pose.quaternion, pose.translation, *vars(params).values())
        if self.config.sampling == "nearest" and any(value is not None and value.requires_grad for value in inputs):
            raise InvalidInputError(
                "gradients need RenderConfig(sampling='trilinear'); else detach poses and parameters"
            )
        if not self.config.speckle and params.clutter is not None:
            raise InvalidInputError("clutter needs speckle: a mean power has no haze; leave clutter None")

    def _run_reference(self, lines: Lines, tables: BeamTables) -> dict[str, Tensor | None]:
        """Fields of a frame; those that are not asked for may be missing."""
        seen = render_reference(self.voxels.flat, lines, tables, self._rule)
        return {
            "beam": display(seen.decibels, lines.dynamic_range),
            "iq": seen.iq,
            "envelope": seen.power.sqrt() if seen.iq is None else seen.iq.abs(),
            "decibels": seen.decibels,
            "labels": seen.field.labels,
            "transmission": seen.field.transmission,
        }

    def _run_fused(
        self,
        path: tuple[Tracer, FusedRenderer],
        pose: Pose,
        index: Int[Tensor, " envs"],
        params: RenderParams,
        breathing: VolumeStack | None,
    ) -> dict[str, Tensor | None]:
        tracer, fused = path
        tracing = tracer.begin(pose, index, params, breathing)
        wanted = set(self.config.outputs)
        keep, keep_iq = not wanted.isdisjoint(_MAPS), bool(wanted & {"iq", "envelope", "decibels"})
        beam, parts, labels, transmission = map(torch.from_numpy, fused(tracing, keep, keep_iq))
        seen: dict[str, Tensor | None] = {"beam": beam}
        if keep:
            seen |= {"labels": labels, "transmission": transmission}
        if keep_iq:
            seen["iq"] = torch.view_as_complex(parts)
        if "envelope" in wanted:
            seen["envelope"] = torch.view_as_complex(parts).abs()
        if "decibels" in wanted:
            seen["decibels"] = decibels(parts.square().sum(-1), torch.from_numpy(tracing.batch.level))
        return seen

    def _frame(self, seen: dict[str, Tensor | None]) -> Frame:
        wanted, converter = {"beam", *self.config.outputs}, self.converter
        labels = seen.get("labels")
        if labels is not None and wanted & {"true_depth", "bone_depth"}:
            depth = true_depth(labels, self._tables[0].tissue[:, 2], self._tables[0].step)
            seen = {**seen, "true_depth": depth, "bone_depth": bone_depth(labels, depth)}
        kept: dict[str, Any] = {
            name: value if value is None else self._once_round(value) for name, value in seen.items() if name in wanted
        }
        beam = kept.pop("beam")[:, None]
        return Frame(
            beam=beam,
            depth=self._tables[0].ranges,
            line_position=self._line_position,
            image=None if converter is None else converter(beam),
            extent=None if converter is None else converter.extent,
            **kept,
        )

    def _once_round(self, values: Tensor) -> Tensor:
        """The lines (last axis) of a closed circle without those marched twice."""
        return values[..., self._overlap : -self._overlap].contiguous() if self._overlap else values

    def _fused_path(self, beam: Transducer, tables: BeamTables) -> tuple[Tracer, FusedRenderer] | None:
        if self.backend == "reference":
            return None
        tracer = Tracer(beam, self._scanlines, tables, self.voxels, self._body)
        return tracer, FusedRenderer(tables, self.voxels.flat.numpy(), self.config.samples, len(self._scanlines[0]))

    def _scan_converter(self) -> ScanConverter | None:
        if "image" not in self.config.outputs:
            return None
        height, width = self.config.image_size
        config = self.config
        return ScanConverter(self.transducer, config.lines, config.samples, self.depth, height, width, str(self.device))


def _acoustic(patient: str | Anatomy | AcousticAnatomy, pitch: float, tissues: str) -> AcousticAnatomy:
    if isinstance(patient, AcousticAnatomy):
        return patient
    if isinstance(patient, Anatomy):
        return bake(patient, pitch, load_acoustics_table(tissues))
    if tissues != "default":
        raise InvalidInputError(
            f"patients by name are baked with the default tissues, got {tissues!r}: pass an anatomy"
        )
    return load_acoustic(patient, pitch)


def _overlap(tables: Sequence[BeamTables], lines: int) -> int:
    """Lines of a closed circle marched twice on either side, so that both blurs find the true neighbours there."""
    return min(max(int(one.radius.max()) + int(one.penumbra_radius.max()) for one in tables), lines)


def _backend(config: RenderConfig, device: torch.device) -> str:
    name = config.backend
    if name == "auto":
        return "numba" if device.type == "cpu" and config.sampling == "nearest" else "reference"
    if name == "numba" and device.type != "cpu":
        raise InvalidInputError(f"backend 'numba' renders on 'cpu', got device {device}; use backend 'auto'")
    return name

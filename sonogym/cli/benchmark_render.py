"""Rows of ``sonogym benchmark render``: milliseconds a frame, against the torch reference on the same frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sonogym.cli.benchmark import timed

if TYPE_CHECKING:
    from sonogym.geometry import Pose
    from sonogym.ultrasound.bake import AcousticAnatomy
    from sonogym.ultrasound.frame import RenderConfig

PATIENT = "procedural:test/0"
PROBE = "C5-2v"
SIZES = ((64, 64), (128, 128), (200, 150))  # samples, lines
BATCHES = (1, 16, 64)
DISPLAY = (256, 256)
BASELINE = "torch reference"


def render_rows(quick: bool) -> list[dict[str, Any]]:
    """A row for each kind of frame, size and batch; ``ms`` and ``baseline_ms`` are per frame.

    ``core``: one plane, no contact. ``all_effects``: three elevation planes, contact and compression.
    """
    import torch

    from sonogym.ultrasound.bake import load_acoustic
    from sonogym.ultrasound.frame import RenderConfig

    core = RenderConfig(planes=1, contact=False)
    full = RenderConfig(planes=3, contact=True)
    cases = [
        (name, replace(config, samples=size[0], lines=size[1]), batch)
        for name, config in (("core", core), ("all_effects", full))
        for size in (SIZES[1:2] if quick else SIZES)
        for batch in (BATCHES[:2] if quick else BATCHES)
    ]
    cases.append(("all_effects", replace(full, samples=DISPLAY[0], lines=DISPLAY[1]), 1))
    patient = load_acoustic(PATIENT, core.pitch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the baseline runs on one thread, as the kernel's rows say for themselves
    try:
        return [_row(patient, name, config, batch, 3 if quick else 9) for name, config, batch in cases]
    finally:
        torch.set_num_threads(threads)


def _row(patient: AcousticAnatomy, name: str, config: RenderConfig, batch: int, repeats: int) -> dict[str, Any]:
    import numba

    seconds, spread = _measure(patient, replace(config, backend="numba"), batch, repeats)
    baseline, _ = _measure(patient, replace(config, backend="reference"), batch, 1)
    return {
        "name": name,
        "size": f"{config.samples}x{config.lines}",
        "batch": batch,
        "threads": numba.get_num_threads(),
        "ms": 1e3 * seconds / batch,
        "per_second": batch / seconds,
        "spread": spread,
        "baseline": BASELINE,
        "baseline_ms": 1e3 * baseline / batch,
        "ratio": baseline / seconds,
    }


def _measure(patient: AcousticAnatomy, config: RenderConfig, batch: int, repeats: int) -> tuple[float, float]:
    import torch

    from sonogym.ultrasound.renderer import Renderer

    renderer = Renderer([patient], PROBE, config)
    poses, index = _poses(patient, batch), torch.zeros(batch, dtype=torch.long)
    return timed(lambda: renderer.render(poses, index), repeats)


def _poses(patient: AcousticAnatomy, batch: int) -> Pose:
    """Probes pressed on the back, spread +-20 mm and +-.3 rad about the transverse plane of L3: the same each run."""
    import torch

    from sonogym.anatomy.planes import plane_pose
    from sonogym.geometry import Pose

    draw = torch.rand(batch, 6, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    twist = draw * torch.tensor([0.02, 0.02, 0.004, 0.3, 0.3, 0.3])
    twist[:, 2] += 0.008
    return plane_pose(patient, "transverse_L3").unsqueeze(0) @ Pose.exp(twist)

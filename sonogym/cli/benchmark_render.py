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
SIZES = ((64, 64), (128, 128), (200, 150), (192, 512))  # samples, lines
BATCHES = (1, 16, 64, 256)
THREADS = (1, 2)
DISPLAY = (256, 256)
REPEATS, LONGEST = 9, 2.0  # of a row; fewer where they would take longer than this [s]
BASELINE = "torch reference"
BASELINE_BATCH = 4  # largest batch of the reference: a frame costs it about the same beyond
PUBLISHED_SIZE = (200, 150)
PUBLISHED = "published SonoGym, 9.3-14.2 ms on a core of this class: a figure of performance.md, not run here"
PUBLISHED_SECONDS = 9.3e-3  # the faster end


def render_rows(quick: bool) -> list[dict[str, Any]]:
    """A row for each kind of frame, size, batch and number of threads; ``ms`` and ``baseline_ms`` are per frame.

    ``core``: one plane, no contact. ``all_effects``: three elevation planes, contact and compression, reverberation and
    the tail of gas. The baseline is the torch reference on one thread, except in the rows that compare with the
    published simulator's figure.
    """
    import torch
    from tqdm import tqdm

    from sonogym.ultrasound.bake import load_acoustic
    from sonogym.ultrasound.frame import RenderConfig

    core = RenderConfig(planes=1, contact=False)
    full = RenderConfig(planes=3, contact=True, reverberation=True, ring_down=True)
    patient = load_acoustic(PATIENT, core.pitch)
    sizes, batches = (SIZES[1:2], BATCHES[:2]) if quick else (SIZES, BATCHES)
    repeats = 3 if quick else REPEATS
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        kinds = [(name, config, size) for name, config in (("core", core), ("all_effects", full)) for size in sizes]
        for name, config, (samples, lines) in tqdm(kinds, desc="renderer", unit="kind of frame", leave=False):
            rows += _rows(patient, name, replace(config, samples=samples, lines=lines), batches, repeats)
        display = replace(full, samples=DISPLAY[0], lines=DISPLAY[1])
        rows += _rows(patient, "all_effects", display, (1,), repeats)
        return rows + [_against_published(row) for row in rows if row["size"] == _size(*PUBLISHED_SIZE)]
    finally:
        torch.set_num_threads(before)


def _rows(
    patient: AcousticAnatomy, name: str, config: RenderConfig, batches: tuple[int, ...], repeats: int
) -> list[dict[str, Any]]:
    """One kind of frame of one size: every batch on one thread and on two; a single frame is never split."""
    from sonogym.ultrasound.render_threads import render_threads, set_render_threads

    baseline = {}
    for batch in {min(batch, BASELINE_BATCH) for batch in batches}:
        seconds, _ = _measure(patient, replace(config, backend="reference"), batch, 1)
        baseline[batch] = seconds / batch
    rows = []
    before = render_threads()
    try:
        for threads in (count for count in THREADS if count <= before):
            set_render_threads(threads)
            for batch in (batch for batch in batches if threads == 1 or batch > 1):
                seconds, spread = _measure(patient, replace(config, backend="numba"), batch, repeats)
                rows.append(_row(name, config, batch, threads, seconds, spread, baseline[min(batch, BASELINE_BATCH)]))
    finally:
        set_render_threads(before)
    return rows


def _row(
    name: str, config: RenderConfig, batch: int, threads: int, seconds: float, spread: float, baseline: float
) -> dict[str, Any]:
    return {
        "name": name,
        "size": _size(config.samples, config.lines),
        "batch": batch,
        "threads": threads,
        "ms": 1e3 * seconds / batch,
        "per_second": batch / seconds,
        "spread": spread,
        "baseline": BASELINE,
        "baseline_ms": 1e3 * baseline,
        "ratio": baseline * batch / seconds,
    }


def _against_published(row: dict[str, Any]) -> dict[str, Any]:
    published = 1e3 * PUBLISHED_SECONDS
    return row | {"baseline": PUBLISHED, "baseline_ms": published, "ratio": published / row["ms"]}


def _size(samples: int, lines: int) -> str:
    return f"{samples}x{lines}"


def _measure(patient: AcousticAnatomy, config: RenderConfig, batch: int, repeats: int) -> tuple[float, float]:
    import torch

    from sonogym.ultrasound.renderer import Renderer

    renderer = Renderer([patient], PROBE, config)
    poses, index = _poses(patient, batch), torch.zeros(batch, dtype=torch.long)
    return timed(lambda: renderer.render(poses, index), repeats, LONGEST)


def _poses(patient: AcousticAnatomy, batch: int) -> Pose:
    """Probes pressed on the back, spread +-20 mm and +-.3 rad about the transverse plane of L3: the same each run."""
    import torch

    from sonogym.anatomy.planes import plane_pose
    from sonogym.geometry import Pose

    draw = torch.rand(batch, 6, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    twist = draw * torch.tensor([0.02, 0.02, 0.004, 0.3, 0.3, 0.3])
    twist[:, 2] += 0.008
    return plane_pose(patient, "transverse_L3").unsqueeze(0) @ Pose.exp(twist)

"""Evaluations and curves for people: Markdown tables, plots and a short film."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sonogym.anatomy.cache import write_atomically

from .evaluate import Evaluation
from .recording import Trace
from .run_folder import read_rows

SHOWN_TRACES = 200
FILM_SCALE = 2
# speckle compresses badly: every second step and 16 greys keep a film under a few megabytes
FILM_STRIDE = 2
FILM_GREYS = 16
FRAME_MILLISECONDS = 200
TILE_WIDTH = 132
LONGEST_FILM = 150


def table_cells(summary: Mapping[str, Any]) -> dict[str, str]:
    """Column -> cell of one evaluation; tasks differ in the columns that they have."""
    low, high = summary["success_interval"]
    return {
        **{name: str(summary[name]) for name in ("policy", "patients", "episodes")},
        ("success 5 mm / 5°" if "position_error_mm" in summary else "success"): f"{summary['success_rate']:.2f}",
        "95 % interval": f"{low:.2f}-{high:.2f}",
        **(_error_cells(summary) if "position_error_mm" in summary else {}),
        **{f"{name}: mean": f"{figure['mean']:.2f}" for name, figure in summary.get("metrics", {}).items()},
        "return": f"{summary['return_mean']:.2f}",
        "cost": f"{summary['cost_mean']:.2f}",
        "steps": f"{summary['steps_mean']:.0f}",
    }


def _error_cells(summary: Mapping[str, Any]) -> dict[str, str]:
    errors = {
        f"{label}: {figure}": f"{summary[key][figure]:.1f}"
        for key, label in (("position_error_mm", "position mm"), ("angle_error_deg", "angle °"))
        for figure in ("mean", "median", "p95")
    }
    rates = {"success 10 mm / 10°": "success_rate_10", "level": "level_rate"}
    return {**{label: f"{summary[key]:.2f}" for label, key in rates.items()}, **errors}


def markdown_table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Evaluations of one task under one another, as Markdown."""
    first = summaries[0]
    rows = [table_cells(summary) for summary in summaries]
    lines = [
        f"# {first['task']}: seed {first['seed']}",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|" + "---|" * len(rows[0]),
        *("| " + " | ".join(row.values()) + " |" for row in rows),
        "",
        "Figures are those of an episode's last state; intervals resample patients, not episodes.",
    ]
    return "\n".join(lines) + "\n"


def write_report(folder: Path, evaluation: Evaluation) -> list[Path]:
    """evaluation.json and .md, errors.png and paths.png of tasks with a goal pose, episodes.gif where images were seen;
    their paths.
    """
    texts = {
        "evaluation.json": json.dumps(evaluation.summary, indent=2) + "\n",
        "evaluation.md": markdown_table([evaluation.summary]),
    }
    for name, text in texts.items():
        _write_text(folder / name, text)
    traces = evaluation.recording.traces
    written = [folder / name for name in texts]
    if any(len(trace.position_error) for trace in traces):
        draw_errors(traces, folder / "errors.png")
        draw_paths(traces, folder / "paths.png")
        written += [folder / "errors.png", folder / "paths.png"]
    if any(len(trace.images) for trace in traces):
        write_film(traces, folder / "episodes.gif")
        written.append(folder / "episodes.gif")
    return written


def _write_text(file: Path, text: str) -> None:
    write_atomically(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _figure(rows: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 * columns, 3.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Any, file: Path) -> None:
    write_atomically(file, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


def draw_errors(traces: Sequence[Trace], file: Path) -> None:
    """Position and angle error against the step: single episodes thin, the median over running ones thick."""
    figure, axes = _figure(1, 2)
    series = (
        (axes[0, 0], "position error [mm]", [1e3 * trace.position_error for trace in traces]),
        (axes[0, 1], "angle error [°]", [np.rad2deg(trace.angle_error) for trace in traces]),
    )
    for axis, label, curves in series:
        for curve in curves[:SHOWN_TRACES]:
            axis.plot(curve, color="tab:blue", alpha=0.15, linewidth=0.8)
        axis.plot(_held_median(curves), color="black", linewidth=2.0, label="median, ended episodes held")
        axis.axhline(5.0, color="tab:green", linestyle="--", linewidth=1.0, label="success limit")
        axis.set(xlabel="step", ylabel=label, ylim=(0.0, None))
        axis.legend(fontsize=8)
    _save(figure, file)


def _held_median(curves: Sequence[np.ndarray]) -> np.ndarray:
    length = max(len(curve) for curve in curves)
    held = np.stack([np.pad(curve, (0, length - len(curve)), mode="edge") for curve in curves])
    return np.median(held, axis=0)


def draw_paths(traces: Sequence[Trace], file: Path) -> None:
    """Ways over the skin in the goal's frame: start (dot) to end (cross), the goal's 5 mm in green."""
    from matplotlib.patches import Circle

    figure, axes = _figure(1, 1)
    axis = axes[0, 0]
    for trace in [trace for trace in traces if len(trace.path)][:SHOWN_TRACES]:
        path = 1e3 * trace.path
        axis.plot(path[:, 0], path[:, 1], color="tab:blue", alpha=0.3, linewidth=0.8)
        axis.plot(*path[0], ".", color="grey", markersize=4)
        axis.plot(*path[-1], "x", color="tab:red", markersize=4)
    axis.add_patch(Circle((0.0, 0.0), 5.0, fill=False, edgecolor="tab:green", linewidth=1.5))
    axis.set(xlabel="lateral [mm]", ylabel="elevation [mm]", aspect="equal")
    axis.set_title("probe in the goal's frame (dot: start, cross: end)", fontsize=9)
    _save(figure, file)


def write_film(traces: Sequence[Trace], file: Path) -> None:
    """An animated GIF of the filmed episodes side by side, each image with its step and errors below."""
    from PIL import Image

    filmed = [trace for trace in traces if len(trace.images)]
    length = min(max(len(trace.images) for trace in filmed), LONGEST_FILM)
    frames = []
    for step in range(0, length, FILM_STRIDE):
        tiles = [_tile(trace, min(step, len(trace.images) - 1)) for trace in filmed]
        strip = Image.new("L", (sum(tile.width for tile in tiles), tiles[0].height))
        for index, tile in enumerate(tiles):
            strip.paste(tile, (index * tile.width, 0))
        frames.append(strip)

    def write(temporary: Path) -> None:
        frames[0].save(
            temporary, format="GIF", save_all=True, append_images=frames[1:], duration=FRAME_MILLISECONDS, loop=0
        )

    write_atomically(file, write)


def _tile(trace: Trace, step: int) -> Any:
    from PIL import Image, ImageDraw

    rows, columns = trace.images[step].shape
    grey = trace.images[step] // (256 // FILM_GREYS) * (255 // (FILM_GREYS - 1))
    image = Image.fromarray(grey).resize((FILM_SCALE * columns, FILM_SCALE * rows), Image.Resampling.NEAREST)
    tile = Image.new("L", (max(image.width + 4, TILE_WIDTH), image.height + 16))
    tile.paste(image, (2, 0))
    text = f"{step}"
    if len(trace.position_error):
        text += f": {1e3 * trace.position_error[step]:.0f} mm {np.rad2deg(trace.angle_error[step]):.0f} deg"
    ImageDraw.Draw(tile).text((4, image.height + 2), text, fill=255)
    return tile


def draw_curve(progress: Path, file: Path) -> None:
    """Success, errors, return and speed of a run against its environment steps; nothing for a run without rows."""
    rows = read_rows(progress)
    if not rows:
        return
    panels = (
        ("success_rate", "success 5 mm / 5°", 1.0),
        ("position_error", "last position error [mm]", 1e3),
        ("angle_error", "last angle error [°]", 180.0 / np.pi),
        ("return", "return", 1.0),
    )
    figure, axes = _figure(2, 2)
    for axis, (key, label, scale) in zip(axes.flat, panels, strict=True):
        points = [(row["steps"], scale * row[key]) for row in rows if key in row]
        if points:
            axis.plot(*zip(*points, strict=True), color="tab:blue", linewidth=1.0)
        axis.set(xlabel="environment steps", ylabel=label)
        axis.grid(alpha=0.3)
    _save(figure, file)

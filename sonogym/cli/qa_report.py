"""The report of ``sonogym qa``: a table in Markdown, the same in JSON, and the scans as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sonogym.anatomy.cache import write_atomically
from sonogym.cli.tables import print_table
from sonogym.ultrasound.qa.protocol import Quality
from sonogym.ultrasound.qa.row import Row
from sonogym.ultrasound.qa.scan import Scan
from sonogym.ultrasound.scan_conversion import ScanConverter
from sonogym.ultrasound.transducer import Transducer

_COLUMNS = ("test", "quantity", "measured", "expected", "range", "unit", "", "source")
_PANELS = {
    "wires": "wires: resolution, distances",
    "contrast": "cysts, and targets of -9 -6 -3 +3 +6 dB",
    "penetration": "penetration, .5 | .7 dB/cm/MHz",
}
_PIXELS = 340  # height of a panel
_GREYS = 24  # levels kept in the file, so that speckle stays small
_DPI = 72


def print_rows(quality: Quality) -> None:
    """The table, for people."""
    print_table(f"quality of {quality.transducer.name}", _COLUMNS[:-1], [_cells(row)[:-1] for row in quality.rows])


def json_content(quality: Quality) -> dict[str, Any]:
    """The rows, for programs; a range without an end on one side has null there."""
    rows = [{name: _plain(value) for name, value in vars(row).items()} | {"passed": row.passed} for row in quality.rows]
    return {"probe": quality.transducer.name, "passed": quality.passed, "rows": rows}


def write_report(folder: Path, quality: Quality) -> None:
    """``PROBE.md`` and ``PROBE.png`` in ``folder``, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    name = quality.transducer.name
    text = _markdown(quality)
    write_atomically(folder / f"{name}.md", lambda path: path.write_text(text, encoding="utf-8"))
    write_atomically(folder / f"{name}.png", lambda path: _draw(path, quality))


def _markdown(quality: Quality) -> str:
    probe = quality.transducer
    failed = sum(not row.passed for row in quality.rows)
    verdict = "all passed" if not failed else f"{failed} of {len(quality.rows)} failed"
    head = (
        f"# Quality report: {probe.name}\n\n"
        f"Virtual phantom scanned by `sonogym qa {probe.name}` ({probe.kind}, {1e-6 * probe.center_frequency:g} MHz, "
        f"{1e3 * probe.depth:g} mm deep): {verdict}.\n\n![scans of the phantom]({probe.name}.png)\n\n"
    )
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in quality.rows]
    return head + "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    return [row.group, row.quantity, _number(row.measured), _number(row.expected), _range(row), row.unit,
            "pass" if row.passed else "FAIL", row.source]  # fmt: skip


def _range(row: Row) -> str:
    if math.isinf(row.low):
        return f"<= {_number(row.high)}"
    if math.isinf(row.high):
        return f">= {_number(row.low)}"
    return f"{_number(row.low)} .. {_number(row.high)}"


def _number(value: float) -> str:
    return "none" if not math.isfinite(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _plain(value: object) -> object:
    """Floats to six digits, and null for what JSON cannot write."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _draw(path: Path, quality: Quality) -> None:
    from io import BytesIO

    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(15.0, 5.6), layout="constrained", facecolor="black")
    for panel, (name, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True):
        _show(panel, quality.transducer, quality.pictures[name])
        panel.set_title(title, color="white", fontsize=10)
    figure.suptitle(f"{quality.transducer.name}: virtual quality-assurance phantom [mm]", color="white")
    memory = BytesIO()
    figure.savefig(memory, format="png", dpi=_DPI)
    picture = np.asarray(Image.open(memory).convert("L"), dtype=np.uint16)
    level = (picture * (_GREYS - 1) + 127) // 255
    small = Image.fromarray(level.astype(np.uint8), mode="P")
    small.putpalette([round(255 * i / (_GREYS - 1)) for i in range(_GREYS) for _ in range(3)])
    small.save(path, format="PNG", optimize=True)


def _show(panel: Any, transducer: Transducer, scanned: Scan) -> None:
    samples, lines = scanned.beam.shape
    depth = float(scanned.depth[-1] + scanned.depth[0])
    convert = ScanConverter(transducer, lines, samples, depth, _PIXELS, 4 * _PIXELS)
    image = convert(scanned.beam).numpy()
    used = np.flatnonzero(convert.inside.numpy().any(axis=0))
    columns = slice(int(used[0]), int(used[-1]) + 1)
    left, right, bottom, top = (1e3 * edge for edge in convert.extent)
    step = (right - left) / image.shape[1]
    extent = (left + columns.start * step, left + columns.stop * step, bottom, top)
    panel.imshow(image[:, columns], cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="antialiased")
    panel.set_facecolor("black")
    panel.tick_params(colors="white", labelsize=8)

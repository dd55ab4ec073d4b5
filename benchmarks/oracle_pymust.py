"""The renderer against PyMUST (LGPL, in a virtual environment of its own, never a dependency of sonogym).

    python benchmarks/oracle_pymust.py [--folder FOLDER] [--reuse] [--ours]

Makes FOLDER/venv with pymust, lets oracle_simulation.py simulate and beamform the same probes there, renders the same
scenes here, and writes oracle.json and oracle.md beside this file. --reuse keeps simulations that FOLDER already holds,
--ours the figures of PyMUST that oracle.json does.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import tempfile
import venv
from pathlib import Path

import numpy as np
import torch

from sonogym.cli.benchmark import machine
from sonogym.ultrasound.qa import measures
from sonogym.ultrasound.qa.phantom import Disc, Medium, slab
from sonogym.ultrasound.qa.plan import THINNEST_WIRE, wires
from sonogym.ultrasound.qa.scan import Scan, samples_for, scan
from sonogym.ultrasound.transducer import Transducer, load_probe

HERE = Path(__file__).parent
VERSION = "0.1.9"
PROBES = ("L11-5v", "C5-2v")
DENSITIES = (0.5, 1.0, 2.0, 5.0, 10.0)  # scatterers a cell, as simulated
TABLE_SNR = (1.07, 1.42, 1.67, 1.82, 1.88)  # of physics.md, V4
DEPTHS = {"L11-5v": (15e-3, 25e-3, 35e-3), "C5-2v": (40e-3, 70e-3, 100e-3)}  # m: of the point targets
RADIUS = {"L11-5v": 2.0e-3, "C5-2v": 4.5e-3}  # m: of the cyst at the transmit focus
READ = 0.65  # share of the cyst's radius that is read
GREY = -6.0  # dB
QUANTILES = np.arange(0.5, 100.0, 1.0) / 100.0
FRAMES = 20
SPARSE_FRAMES = 4


def simulated_figures(probe: str, data: dict[str, np.ndarray]) -> dict[str, object]:
    """What PyMUST's beams say. The histogram is kept as quantiles of the envelope over its mean."""
    across = [measures.full_width(*mirrored(data["lateral"], profile)) for profile in data["across"]]
    along = [measures.full_width(data["axial"], profile) for profile in data["along"]]
    speckle = np.abs(data["speckle"])
    speckle /= speckle.mean(axis=1, keepdims=True)  # the beam spreads along its depth
    inside = np.abs(data["cyst_depths"]) < READ * RADIUS[probe]
    outer, inner = data["cyst"][:, 0, inside], data["cyst"][:, 1, inside]
    around = np.abs(outer + inner)
    grey, anechoic = np.abs(outer + 10.0 ** (GREY / 20.0) * inner), np.abs(outer)
    return {
        "axial_mm": rounded(1e3 * np.array(along)),
        "lateral_mm": rounded(1e3 * np.array(across)),
        "speckle_snr": rounded([values.mean() / values.std() for values in speckle]),
        "quantiles": rounded(np.quantile(speckle[-1], QUANTILES)),
        **targets(grey, anechoic, around),
    }


def rendered_figures(probe: str) -> dict[str, object]:
    """The same figures of our renderer; speckle of the same numbers of scatterers, targets fully developed."""
    transducer = load_probe(probe)
    points = [point(transducer, depth) for depth in DEPTHS[probe]]
    radius, focus = RADIUS[probe], transducer.transmit_focus
    grey, anechoic, around = (
        through_centre(transducer, Disc(x=0.0, z=focus, radius=radius, medium=medium))
        for medium in (Medium.MINUS_6, Medium.ANECHOIC, Medium.BACKGROUND)
    )
    sparse = [about_focus(transducer, density) for density in DENSITIES]
    return {
        "axial_mm": rounded([1e3 * axial for axial, _ in points]),
        "lateral_mm": rounded([1e3 * lateral for _, lateral in points]),
        "speckle_snr": rounded([speckle.mean() / speckle.std() for speckle in sparse]),
        "quantiles": rounded(np.quantile(sparse[-1] / sparse[-1].mean(), QUANTILES)),
        **targets(grey, anechoic, around),
    }


def targets(grey: np.ndarray, anechoic: np.ndarray, around: np.ndarray) -> dict[str, float]:
    """Contrast [dB] and contrast-to-noise of a grey and of an anechoic target."""
    return {
        "grey_db": float(rounded(measures.contrast_decibels(grey, around))),
        "grey_cnr": float(rounded(measures.contrast_to_noise(grey, around))),
        "anechoic_db": float(rounded(measures.contrast_decibels(anechoic, around))),
        "anechoic_cnr": float(rounded(measures.contrast_to_noise(anechoic, around))),
    }


def point(transducer: Transducer, depth: float) -> tuple[float, float]:
    """Axial and lateral width [m] of a wire at ``depth`` [m], the wire's own size taken off."""
    pitch = float(transducer.line_pitch(1024, torch.tensor([depth]))[0])
    radius = max(THINNEST_WIRE, 0.6 * pitch)
    deepest = depth + 5e-3
    body = slab(transducer, deepest, 0.5 * radius, Medium.SILENT, wires([(0.0, depth)], radius))
    scanned = scan(body, transducer, 1024, samples_for(transducer, deepest, 8.0), deepest)
    envelope = scanned.envelope[0]
    row, line = np.unravel_index(int(envelope.argmax()), envelope.shape)
    axial = measures.full_width(scanned.depth, envelope[:, line])
    lateral = measures.full_width(np.arange(envelope.shape[1]) * pitch, envelope[row])
    variance = 8.0 * np.log(2.0) * radius**2
    return (
        float(np.sqrt(axial**2 - variance * (2.0 / 3.0 - np.pi**2 / 16.0))),
        float(np.sqrt(lateral**2 - variance / 3.0)),
    )


def through_centre(transducer: Transducer, disc: Disc) -> np.ndarray:
    """Envelope (frames, points) along the middle of a disc, each depth divided by what attenuation leaves there."""
    deepest = disc.z + 2.0 * disc.radius
    body = slab(transducer, deepest, 0.2e-3, Medium.BACKGROUND, [disc])
    scanned = scan(body, transducer, 512, samples_for(transducer, deepest, 4.0), deepest, FRAMES)
    loss = 2e-4 * 0.5 * transducer.center_frequency * scanned.depth
    flat = scanned.envelope * 10.0 ** (loss / 20.0)[:, None]
    return flat[:, middle(scanned, disc)]


def about_focus(transducer: Transducer, density: float) -> np.ndarray:
    """Envelope (frames, points) within 6 % of the transmit focus, with ``density`` scatterers in each cell."""
    focus = transducer.transmit_focus
    deepest = 1.1 * focus
    body = slab(transducer, deepest, 1e-3, Medium.BACKGROUND)
    samples = samples_for(transducer, deepest, 4.0)
    scanned = scan(body, transducer, 512, samples, deepest, SPARSE_FRAMES, scatterers=density)
    rows = np.abs(scanned.depth - focus) < 0.06 * focus
    flat = scanned.envelope[:, rows]
    return flat / np.sqrt((flat**2).mean(axis=(0, 2), keepdims=True))


def middle(scanned: Scan, disc: Disc) -> np.ndarray:
    """Mask of the inner part of a disc that lies close to its axis."""
    return scanned.inside(disc, READ) & (np.abs(scanned.x - disc.x) < 0.25 * disc.radius)


def mirrored(place: np.ndarray, profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate((-place[:0:-1], place)), np.concatenate((profile[:0:-1], profile))


def kolmogorov_smirnov(first: object, second: object) -> float:
    """Largest distance of two distributions given by their quantiles at QUANTILES."""
    one, two = np.asarray(first), np.asarray(second)
    places = np.union1d(one, two)
    return float(np.abs(np.interp(places, one, QUANTILES) - np.interp(places, two, QUANTILES)).max())


def rounded(values: object) -> object:
    return np.round(np.asarray(values, float), 4).tolist()


def simulate(folder: Path, probe: str, reuse: bool) -> dict[str, np.ndarray]:
    """PyMUST's beams of one probe."""
    out = folder / f"{probe}.npz"
    if not (reuse and out.is_file()):
        python = folder / "venv" / "bin" / "python"
        if not python.is_file():
            venv.create(folder / "venv", with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "-q", f"pymust=={VERSION}"], check=True)
        subprocess.run([python, HERE / "oracle_simulation.py", probe, out], check=True)
    with np.load(out) as data:
        return dict(data)


def markdown(content: dict) -> str:
    lines = [
        "# The renderer against PyMUST\n",
        f"`{content['command']}`, {content['date']}, pymust {content['pymust']}, {content['machine']}.\n",
        "PyMUST simulates the RF signals of every element (2-D) and delay-and-sum at the f-numbers of `assets/probes`",
        "beamforms them; no apodisation on either side. Its pulse is lengthened to the effective bandwidth that the",
        "presets state, so axial widths agree by construction; everything else is free.\n",
        "| probe | quantity | PyMUST | sonogym | difference |",
        "|---|---|---|---|---|",
    ]
    for probe in PROBES:
        theirs, ours = content["reference"][probe], content["renderer"][probe]
        for axis in ("axial", "lateral"):
            for depth, one, two in zip(DEPTHS[probe], theirs[f"{axis}_mm"], ours[f"{axis}_mm"], strict=True):
                lines.append(row(probe, f"{axis} width at {1e3 * depth:.0f} mm [mm]", one, two))
        snr = zip(DENSITIES, theirs["speckle_snr"], ours["speckle_snr"], TABLE_SNR, strict=True)
        for density, one, two, law in snr:
            name = f"speckle SNR, {density:g} a cell (V4: {law:g})"
            lines.append(row(probe, name, one, two))
        for key, name in (("grey", f"{GREY:g} dB target"), ("anechoic", "anechoic target")):
            one, two = theirs[f"{key}_db"], ours[f"{key}_db"]
            lines.append(f"| {probe} | {name} [dB] | {one:.3g} | {two:.3g} | {two - one:+.2g} dB |")
            lines.append(row(probe, f"{name}, CNR", theirs[f"{key}_cnr"], ours[f"{key}_cnr"]))
        distance = kolmogorov_smirnov(theirs["quantiles"], ours["quantiles"])
        lines.append(f"| {probe} | envelope histogram, 10 a cell, KS | | | {distance:.3f} |")
    return "\n".join(lines) + "\n\n" + NOTES


NOTES = """## Where we disagree, and why
* Lateral widths are a closed form of the aperture that is heard (`psf.py`), not a simulation; without the directivity
  of its elements the convex beam was 19 % too narrow at 100 mm.
* Anechoic targets: ours hold nothing but noise and the tails of Gaussian beams; PyMUST's hold its side lobes as well.
* PyMUST's lines are few (60 of speckle, 80 through the cyst): its SNR is known to about .04, its CNR to about 4 %.
* The -6 dB target and its background are the same scatterers on either side, so its contrast has no spread.
"""


def row(probe: str, name: str, one: float, two: float) -> str:
    return f"| {probe} | {name} | {one:.3g} | {two:.3g} | {100.0 * (two / one - 1.0):+.1f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="Where the venv and the simulations are kept.")
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--ours", action="store_true", help="Render anew and keep PyMUST's figures.")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="oracle-"))
    folder.mkdir(parents=True, exist_ok=True)
    content: dict = {
        "command": "python benchmarks/oracle_pymust.py",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "pymust": VERSION,
        "machine": machine(),
        "reference": {},
        "renderer": {},
    }
    known = json.loads((HERE / "oracle.json").read_text(encoding="utf-8"))["reference"] if given.ours else {}
    for probe in PROBES:
        content["reference"][probe] = known.get(probe) or simulated_figures(probe, simulate(folder, probe, given.reuse))
        content["renderer"][probe] = rendered_figures(probe)
    (HERE / "oracle.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (HERE / "oracle.md").write_text(markdown(content), encoding="utf-8")


if __name__ == "__main__":
    main()

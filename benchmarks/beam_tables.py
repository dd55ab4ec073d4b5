"""Beam constants of a probe, from broadband two-way Fresnel integrals: the elevation table and lateral a, b.

    python benchmarks/beam_tables.py                 # every preset: shipped table beside the integral
    python benchmarks/beam_tables.py my_probe.toml   # lines to put into a new probe file

The two-way pulse is Gaussian with the listed bandwidth (effective / .61); widths are -6 dB of its envelope's peak.
Elevation: a lens of the probe's height and focus, both ways. Lateral: transmit focused once, receive everywhere.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize

from sonogym.resources import asset_names
from sonogym.ultrasound.psf import elevation_width, lateral_width
from sonogym.ultrasound.transducer import BANDWIDTH_USED, SPEED_OF_SOUND, Transducer, load_probe

Lens = tuple[float, float]  # aperture and focus [m]
FREQUENCIES, SOURCES, INSTANTS = 41, 240, 161


def pressure(aperture: float, focus: float, depth: float, frequency: float, across: np.ndarray) -> np.ndarray:
    """One-way field at ``across`` [m] of a line source focused at ``focus`` [m], both at ``depth`` [m]."""
    source = ((np.arange(SOURCES) + 0.5) / SOURCES - 0.5) * aperture
    delay = np.hypot(focus, source) - focus
    path = np.hypot(depth, across[:, None] - source) - delay
    return np.exp(2j * np.pi * frequency / SPEED_OF_SOUND * path).mean(1)


def two_way_width(probe: Transducer, depth: float, transmit: Lens, receive: Lens) -> float:
    """-6 dB width [m] of the echo's envelope at ``depth``; ``transmit`` and ``receive`` are (aperture, focus) [m]."""
    relative = probe.effective_bandwidth / BANDWIDTH_USED
    frequencies = probe.center_frequency * (1.0 + relative * np.linspace(-0.95, 0.95, FREQUENCIES))
    frequencies = frequencies[frequencies > 0.05 * probe.center_frequency]
    pulse = np.exp(-4.0 * np.log(2.0) * ((frequencies / probe.center_frequency - 1.0) / relative) ** 2)
    across = np.linspace(0.0, _reach(probe, depth, transmit, receive), 321)
    field = [pressure(*transmit, depth, f, across) * pressure(*receive, depth, f, across) for f in frequencies]
    spectrum = pulse[:, None] * np.array(field)
    instants = 2.0 * depth / SPEED_OF_SOUND + np.linspace(-3.0, 5.0, INSTANTS) / (probe.center_frequency * relative)
    envelope = np.abs(np.exp(-2j * np.pi * np.outer(instants, frequencies)) @ spectrum).max(0)
    inside = np.flatnonzero(envelope >= 0.5 * envelope.max())
    return 2.0 * float(across[inside[-1]])


def _reach(probe: Transducer, depth: float, transmit: Lens, receive: Lens) -> float:
    """Half width [m] that holds the beam: the narrower cone of the two, and its diffraction."""
    cones = [a * abs(1.0 - depth / f) + 2.5 * probe.wavelength * depth / a for a, f in (transmit, receive)]
    return 0.75 * min(cones)


def elevation_table(probe: Transducer) -> list[float]:
    """Widths [m] at the probe's ``elevation_depths``."""
    lens = (probe.height, probe.elevation_focus)
    return [two_way_width(probe, depth, lens, lens) for depth in probe.elevation_depths]


def lateral_fit(probe: Transducer) -> tuple[float, float, float]:
    """a and b of :func:`lateral_width`, and the largest relative error of the fit over .3-1.6 transmit foci."""
    depths = np.linspace(0.3, 1.6, 8) * probe.transmit_focus
    transmit = (probe.transmit_focus / probe.transmit_f_number, probe.transmit_focus)
    widths = np.array([two_way_width(probe, z, transmit, (z / probe.receive_f_number, z)) for z in depths])

    def error(constants: np.ndarray) -> np.ndarray:
        fitted = replace(probe, lateral_a=float(constants[0]), lateral_b=float(constants[1]))
        return np.log(lateral_width(fitted, torch.from_numpy(depths)).numpy() / widths)

    best = minimize(lambda x: float((error(np.clip(x, [0.5, 0.0], 3.0)) ** 2).sum()), [1.3, 0.7], method="Nelder-Mead")
    return float(best.x[0]), float(best.x[1]), float(np.abs(error(best.x)).max())


def main(names: list[str]) -> None:
    for name in names or asset_names("probes", ".toml"):
        probe = load_probe(name)
        depths = torch.tensor(probe.elevation_depths, dtype=torch.float64)
        shipped = elevation_width(probe, depths).numpy()
        a, b, error = lateral_fit(probe)
        print(f"{probe.name}\n  elevation_depths_mm = {[round(1e3 * z, 1) for z in probe.elevation_depths]}")
        print(f"  elevation_widths_mm = {[round(1e3 * w, 2) for w in elevation_table(probe)]}")
        print(f"  shipped             = {[round(1e3 * w, 2) for w in shipped.tolist()]}")
        print(f"  lateral_a = {a:.2f}, lateral_b = {b:.2f} (fit within {100 * error:.0f} %), "
              f"shipped {probe.lateral_a:.2f}, {probe.lateral_b:.2f}")  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])

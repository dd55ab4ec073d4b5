"""The PyMUST side of the oracle: runs in its own virtual environment (numpy and pymust only), see oracle_pymust.py.

Every scan line is one transmit of a sub-array of the probe, focused on the line, and one receive that is delayed and
summed at constant f-number (delay-and-sum in the frequency domain). Lines are independent realisations, so no patch has
to be scanned twice. The elevation focus is left out (2-D), as in a frame of one elevation plane.

    python oracle_simulation.py PROBE OUT.npz [--quick]
"""

import argparse
import logging
import sys
import time
from dataclasses import dataclass

import numpy as np
import pymust

DENSITIES = (0.5, 1.0, 2.0, 5.0, 10.0)  # scatterers a cell of axial FWHM x lateral FWHM
CYST_DENSITY = 8.0
THRESHOLD = -40.0  # dB of the one-way spectrum that is kept


@dataclass(frozen=True)
class Setup:
    """Focus, f-numbers as in assets/probes; depths [m] of the point targets; expected cell [m]; cyst radius [m].

    ``cycles`` of the transmitted pulse: PyMUST's single cycle gives .85 of the axial width of assets/probes (.162 mm
    for L11-5v, .336 mm for C5-2v), so the pulse is lengthened until the effective bandwidth is that of the preset.
    """

    focus: float
    transmit_f_number: float
    receive_f_number: float
    depths: tuple[float, ...]
    cell: tuple[float, float]
    radius: float
    cycles: float


SETUPS = {
    "L11-5v": Setup(25e-3, 2.0, 1.5, (15e-3, 25e-3, 35e-3), (0.19e-3, 0.35e-3), 2.0e-3, 1.75),
    "C5-2v": Setup(70e-3, 3.0, 2.0, (40e-3, 70e-3, 100e-3), (0.396e-3, 0.91e-3), 4.5e-3, 1.71),
}


class Line:
    """One scan line along z from the face centre: simulate scatterers, beamform depths."""

    def __init__(self, probe: str, setup: Setup, deepest: float) -> None:
        param = pymust.getparam(probe)
        param.TXnow = setup.cycles
        wanted = max(deepest / setup.receive_f_number, setup.focus / setup.transmit_f_number) / param.pitch
        param.Nelements = min(2 * round(0.5 * wanted + 1), param.Nelements)
        self.x, self.z, _, apothem = (np.asarray(part).ravel() for part in param.getElementPositions())
        self.face = 0.0 if np.isinf(param.radius) else param.radius - float(apothem[0])
        self.arc = np.abs(np.arange(param.Nelements) - 0.5 * (param.Nelements - 1)) * param.pitch
        self.param, self.setup, self.c = param, setup, 1540.0
        self.delays = pymust.txdelay(0.0, self.face + setup.focus, param)
        inside = self.arc <= 0.5 * setup.focus / setup.transmit_f_number
        used = np.flatnonzero(inside)[0]
        start = np.hypot(self.x[used], self.face + setup.focus - self.z[used]) / self.c + self.delays[0, used]
        self.start = start - setup.focus / self.c
        param.TXapodization = inside.astype(np.float32)[None]

    def simulate(self, x, z, strength, depths):
        """Complex beam at ``depths`` [m] of scatterers at (x, z) [m] from the face centre."""
        options = pymust.utils.Options()
        options.dBThresh = THRESHOLD
        options.ElementSplitting = 1
        span = max(float(depths[-1] - depths[0]), 2e-3) + 4e-3
        longest = 2.0 * (float(z.max()) + 5e-3)
        options.FrequencyStep = max(0.6 * longest / span, 1.0)  # the window is short: aliases fall outside it
        _, spectrum = pymust.simus(x, z + self.face, strength, self.delays.copy(), self.param.copy(), options)
        frequency = np.linspace(0.0, 2.0 * self.param.fc, len(spectrum))
        kept = np.flatnonzero(np.abs(spectrum).sum(1) > 0)
        return self._beamform(spectrum[kept], frequency[kept], depths)

    def _beamform(self, spectrum, frequency, depths):
        out = np.zeros(len(depths), complex)
        for i, depth in enumerate(depths):
            open_ = self.arc <= 0.5 * depth / self.setup.receive_f_number
            back = np.hypot(self.x[open_], self.face + depth - self.z[open_]) / self.c
            delay = self.start + depth / self.c + back
            out[i] = (spectrum[:, open_] * np.exp(-2j * np.pi * frequency[:, None] * delay)).sum()
        return out


def point_targets(probe: str, setup: Setup) -> dict[str, np.ndarray]:
    """Axial and lateral profiles of |beam| of a point at each depth, and their axes [m]."""
    wavelength = 1540.0 / pymust.getparam(probe).fc
    radius = pymust.getparam(probe).radius
    axial = np.arange(-1.5, 1.5, 1 / 40) * wavelength * 1.5
    lateral = np.linspace(0.0, 3.0 * setup.cell[1], 31)
    across, along = [], []
    for depth in setup.depths:
        line = Line(probe, setup, depth)
        one = np.ones((1, 1))
        beam = []
        for offset in lateral:
            bow = 0.0 if np.isinf(radius) else (radius + depth) * (np.cos(offset / (radius + depth)) - 1.0)
            x = offset if np.isinf(radius) else (radius + depth) * np.sin(offset / (radius + depth))
            beam.append(line.simulate(x * one, (depth + bow) * one, one, depth + axial[::2]))
        across.append(np.abs(np.array(beam)).max(1))
        along.append(np.abs(line.simulate(0.0 * one, depth * one, one, depth + axial)))
    return {"lateral": lateral, "axial": axial, "across": np.array(across), "along": np.array(along)}


def scatterers(rng, density: float, setup: Setup, half: tuple[float, float]):
    """Uniform scatterers in a box (2 half[0] wide, 2 half[1] deep) about the focus, of normal strength."""
    count = rng.poisson(density * 4.0 * half[0] * half[1] / (setup.cell[0] * setup.cell[1]))
    x = rng.uniform(-half[0], half[0], (count, 1))
    return x, setup.focus + rng.uniform(-half[1], half[1], (count, 1)), np.ones((count, 1))


def speckle(probe: str, setup: Setup, lines: int, rng) -> np.ndarray:
    """Beam (densities, lines, depths) about the focus."""
    line = Line(probe, setup, setup.focus)
    reach = 16 * setup.cell[0]
    depths = setup.focus + np.arange(-reach, reach, 0.5 * setup.cell[0])
    half = (4.0 * setup.cell[1], reach + 2.5 * setup.cell[0])
    return np.array(
        [[line.simulate(*scatterers(rng, density, setup, half), depths) for _ in range(lines)] for density in DENSITIES]
    )


def cyst(probe: str, setup: Setup, lines: int, rng) -> dict[str, np.ndarray]:
    """Beam through the centre of a disc: of the scatterers outside it and, apart, of those inside it."""
    line = Line(probe, setup, setup.focus + 2.0 * setup.radius)
    reach = 2.0 * setup.radius
    depths = setup.focus + np.arange(-reach, reach, 0.5 * setup.cell[0])
    half = (setup.radius + 2.0 * setup.cell[1], reach + 2.0 * setup.cell[0])
    beams = []
    for _ in range(lines):
        x, z, strength = scatterers(rng, CYST_DENSITY, setup, half)
        inside = np.hypot(x, z - setup.focus) <= setup.radius
        beams.append([line.simulate(x[part, None], z[part, None], strength[part, None], depths)
                      for part in (~inside, inside)])  # fmt: skip
    return {"cyst": np.array(beams), "cyst_depths": depths - setup.focus}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probe", choices=SETUPS)
    parser.add_argument("out")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    setup, rng, start = SETUPS[given.probe], np.random.default_rng(20260101), time.perf_counter()
    out = point_targets(given.probe, setup)
    print(f"{given.probe} point targets {time.perf_counter() - start:.0f} s", file=sys.stderr)
    out["speckle"] = speckle(given.probe, setup, 4 if given.quick else 60, rng)
    print(f"{given.probe} speckle {time.perf_counter() - start:.0f} s", file=sys.stderr)
    out |= cyst(given.probe, setup, 2 if given.quick else 80, rng)
    print(f"{given.probe} cyst {time.perf_counter() - start:.0f} s", file=sys.stderr)
    np.savez(given.out, **out)


if __name__ == "__main__":
    main()

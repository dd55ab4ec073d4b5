# mypy: disable-error-code="no-untyped-def"
"""Force control of one step, compiled: what :func:`sonogym.sim.force_control.regulate_reference` defines in torch."""

from __future__ import annotations

import math

from numba import njit

from sonogym.robot.admittance import NEAR, TOUCHING, StopReason
from sonogym.robot.contact_force import DAMPING, LOSS_SPEED

_FORCE, _SPEED, _WORKSPACE = int(StopReason.FORCE), int(StopReason.SPEED), int(StopReason.WORKSPACE)
_SENSOR = int(StopReason.SENSOR)


@njit(cache=True, error_model="numpy")
def regulate(settings, tissue, ahead, feed, rise, error, set_point, latency, travel, speed, readings, surplus, stop):
    """Advance ``travel`` to ``stop`` by one period for each column of ``error`` (envs, samples) [N].

    ``settings`` are period, bandwidth, mass over damping, reset time, approach, force, speed and travel limit,
    resistance; ``tissue`` (envs, 5) force, scale, depth, the scale that the controller expects, and loss; ``ahead``
    (envs, 4) the first four at the end of the step, which each sample comes closer to; ``feed`` [m/s] is added to the
    speed of the admittance.
    """
    period = settings[0]
    for env in range(len(travel)):
        begin = travel[env]
        for sample in range(error.shape[1]):
            deeper = travel[env] - begin + sample * period * rise[env]
            share = (sample + 1.0) / error.shape[1]
            force, scale, depth, expected = (
                tissue[env, 0] + share * (ahead[env, 0] - tissue[env, 0]),
                tissue[env, 1] + share * (ahead[env, 1] - tissue[env, 1]),
                tissue[env, 2] + share * (ahead[env, 2] - tissue[env, 2]),
                tissue[env, 3] + share * (ahead[env, 3] - tissue[env, 3]),
            )
            rest = _rest(force, scale, depth, deeper) * _rate(tissue[env, 4], speed[env] + feed[env] + rise[env])
            for i in range(readings.shape[1] - 1, 0, -1):
                readings[env, i] = readings[env, i - 1]
            readings[env, 0] = rest + error[env, sample]
            known = _late(readings[env], latency[env] / period)
            missing = set_point[env] - known
            damping = (rest + expected) / depth / settings[1] + settings[8] * rest
            mass = damping * settings[2]
            drive = missing + surplus[env] / settings[3]
            fast = (mass * speed[env] + period * drive) / (mass + damping * period)
            fast = settings[4] if fast > settings[4] else -settings[4] if fast < -settings[4] else fast
            if known > TOUCHING and (abs(missing) < NEAR or missing * surplus[env] < 0.0):
                surplus[env] += period * missing
            place = travel[env] + period * (fast + feed[env])
            if stop[env] == 0:
                stop[env] = _reason(readings[env, 0], known, fast, place, settings)
            if stop[env] == 0:
                travel[env], speed[env] = place, fast
            else:
                speed[env] = 0.0


@njit(cache=True, error_model="numpy")
def _rest(force, scale, depth, deeper):
    """Force of tissue at rest: see ``Felt.at``."""
    deep = (force + scale) * math.exp(deeper / depth) - scale
    return 0.0 if deep < 0.0 else deep


@njit(cache=True, error_model="numpy")
def _rate(loss, speed):
    """How much more, or less, tissue pushes that is pressed."""
    rate = 1.0 + loss * math.tanh(speed / LOSS_SPEED) + DAMPING * speed
    return 0.0 if rate < 0.0 else rate


@njit(cache=True, error_model="numpy")
def _late(readings, steps):
    """The reading so many samples ago, linear between two."""
    before = min(max(math.floor(steps), 0), len(readings) - 2)
    share = steps - before
    newer = readings[before]
    return newer + share * (readings[before + 1] - newer) if share > 0.0 else newer


@njit(cache=True, error_model="numpy")
def _reason(reading, known, speed, travel, settings):
    """The first limit that is broken, in the order of :class:`StopReason`."""
    if not math.isfinite(reading):
        return _SENSOR
    if known > settings[5]:
        return _FORCE
    if abs(speed) > settings[6]:
        return _SPEED
    return _WORKSPACE if abs(travel) > settings[7] else 0

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
def regulate(
    settings, air, tissue, ahead, loss, rise, model, error, set_point, latency, travel, speed, readings, surplus, stop
):
    """Advance ``travel`` to ``stop`` by one period for each column of ``error`` (envs, samples) [N].

    ``settings`` are period, bandwidth, mass over damping, reset time, approach, force, speed and travel limit,
    resistance; ``model`` (envs,) the stiffness that the controller takes the tissue for, over the true one; ``air`` the
    scale below which the face hangs in the air, and that expected there; ``tissue`` are force, scale and depth
    (envs,) each now, ``ahead`` those at the end of the step, which each sample comes closer to.
    """
    period, samples = settings[0], error.shape[1]
    for env in range(len(travel)):
        begin = travel[env]
        now, then = _felt(tissue, env, air), _felt(ahead, env, air)
        feed = _feed(now, then, samples * period, settings[4], air[0]) / model[env]
        for sample in range(samples):
            deeper = travel[env] - begin + sample * period * rise[env]
            share = (sample + 1.0) / samples
            force, scale, depth, expected = (
                now[0] + share * (then[0] - now[0]),
                now[1] + share * (then[1] - now[1]),
                now[2] + share * (then[2] - now[2]),
                now[3] + share * (then[3] - now[3]),
            )
            rest = _rest(force, scale, depth, deeper) * _rate(loss[env], speed[env] + feed + rise[env])
            for i in range(readings.shape[1] - 1, 0, -1):
                readings[env, i] = readings[env, i - 1]
            readings[env, 0] = rest + error[env, sample]
            known = _late(readings[env], latency[env] / period)
            missing = set_point[env] - known
            damping = model[env] * (rest + expected) / depth / settings[1] + settings[8] * rest
            mass = damping * settings[2]
            drive = missing + surplus[env] / settings[3]
            fast = (mass * speed[env] + period * drive) / (mass + damping * period)
            fast = settings[4] if fast > settings[4] else -settings[4] if fast < -settings[4] else fast
            if known > TOUCHING and (abs(missing) < NEAR or missing * surplus[env] < 0.0):
                surplus[env] += period * missing
            place = travel[env] + period * (fast + feed)
            if stop[env] == 0:
                stop[env] = _reason(readings[env, 0], known, fast, place, settings)
            if stop[env] == 0:
                travel[env], speed[env] = place, fast
            else:
                speed[env] = 0.0


@njit(cache=True, error_model="numpy")
def _felt(tissue, env, air):
    """Force, F0, d0, and F0 that the controller expects."""
    force, scale, depth = float(tissue[0][env]), float(tissue[1][env]), float(tissue[2][env])
    return force, scale, depth, air[1] if scale < air[0] else scale


@njit(cache=True, error_model="numpy")
def _feed(now, then, duration, most, touching):
    """The speed of ``force_control._feed``."""
    if now[1] < touching or then[1] < touching:
        return 0.0
    firmer = max(then[0] + then[1], touching) / max(now[0] + now[1], touching)
    return min(max(-then[2] * math.log(firmer) / duration, -most), most)


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

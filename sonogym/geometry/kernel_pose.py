# mypy: disable-error-code="no-untyped-def"
"""Products and turns by unit quaternions (w, x, y, z) of one environment, for compiled code."""

from __future__ import annotations

from numba import njit


@njit(inline="always")
def product(left, right):
    """Hamilton product."""
    w1, x1, y1, z1 = left
    w2, x2, y2, z2 = right
    return (
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
    )


@njit(inline="always")
def turned(quaternion, vector):
    """v + 2 w (q x v) + 2 q x (q x v)."""
    w, x, y, z = quaternion
    a, b, c = vector
    d, e, f = y * c - z * b, z * a - x * c, x * b - y * a
    return (
        a + w * (d + d) + (y * (f + f) - z * (e + e)),
        b + w * (e + e) + (z * (d + d) - x * (f + f)),
        c + w * (f + f) + (x * (e + e) - y * (d + d)),
    )

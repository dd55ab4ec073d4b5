"""Every error a user can mend: what is wrong, what was got, what is allowed, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SonogymError(Exception):
    """Base of the errors that name a cause outside the code; the command line exits with 2 on them."""


class InvalidInputError(SonogymError, ValueError):
    """A value, file or array that cannot be used as it is."""


class UnknownNameError(SonogymError, LookupError):
    """A name that is not in a closed list; the message holds the list and the closest entry."""


class MissingFileError(SonogymError, FileNotFoundError):
    """A file or folder that is not there."""


def unknown_name(kind: str, got: str, known: Iterable[str]) -> UnknownNameError:
    """An error that lists the known names of ``kind`` and the one closest to ``got``."""
    names = sorted(known)
    closest = difflib.get_close_matches(got, names, n=1, cutoff=0.4)
    hint = f" Did you mean {closest[0]!r}?" if closest else ""
    return UnknownNameError(f"unknown {kind} {got!r}.{hint} Known: {', '.join(names) or 'none'}.")


def require_between(name: str, value: float, low: float, high: float, unit: str = "", hint: str = "") -> None:
    """Raise :class:`InvalidInputError` unless ``low <= value <= high`` (NaN is refused)."""
    if not low <= value <= high:
        tail = f" ({hint})" if hint else ""
        raise InvalidInputError(
            f"{name} must be in [{low:g}, {high:g}]{' ' + unit if unit else ''}, got {value!r}{tail}"
        )

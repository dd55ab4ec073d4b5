"""Dotted overrides on frozen configuration dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from sonogym.errors import InvalidInputError, unknown_name

Config = TypeVar("Config")


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """``config`` with ``{"render.depth": 0.12, ...}`` applied; unknown fields and wrong types are refused."""
    for key, value in changes.items():
        config = _set(config, key.split("."), value, key)
    return config


def _set(config: Any, path: list[str], value: Any, key: str) -> Any:
    head, *rest = path
    fields = [field.name for field in dataclasses.fields(config) if field.init]
    if head not in fields:
        raise unknown_name(f"option of {type(config).__name__}", key, fields)
    old = getattr(config, head)
    new = _set(old, rest, value, key) if rest else _coerce(old, value, key)
    return dataclasses.replace(config, **{head: new})


def _coerce(old: Any, value: Any, key: str) -> Any:
    if old is None or isinstance(value, type(old)):
        return value
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    raise InvalidInputError(f"option {key!r} takes a {type(old).__name__}, got {value!r}")

"""Tensor files that carry the hash of their content, written whole or not at all; the cache made of them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sonogym.errors import InvalidInputError, MissingFileError

CACHE_VARIABLE = "SONOGYM_CACHE"
_HASH = "sha256"  # name of the entry that holds it
ABANDONED = 86400.0  # s: temporary files as old as this were left by a process that was killed
T = TypeVar("T")


def cache_folder() -> Path:
    """``$SONOGYM_CACHE``, else ``~/.cache/sonogym``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "sonogym")


def require_writable(path: Path) -> None:
    """Raise :class:`InvalidInputError` where no file can be written at ``path``; ask before long work."""
    _require_regular(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            pass
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror or error}") from error


def _require_regular(path: Path) -> None:
    """A rename would put a file in the place of a device such as /dev/null."""
    if path.exists() and not path.is_file():
        raise InvalidInputError(
            f"cannot write {path}: it is {'a folder' if path.is_dir() else 'a device'}; name a file"
        )


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: readers see all of it or nothing.

    A full disk or missing right becomes one :class:`InvalidInputError`; the temporary file is removed.
    """
    _require_regular(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise InvalidInputError(f"cannot write {path}: {error} (nothing was left behind)") from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    for left in path.parent.glob(f".{path.name}.*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            left.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], text: Mapping[str, str]) -> None:
    """Store named tensors and strings and their hash as one safetensors file, atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {**text, _HASH: _content_hash(contiguous, text)}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, metadata=metadata))


def _content_hash(tensors: Mapping[str, Tensor], text: Mapping[str, str]) -> str:
    state = hashlib.sha256(json.dumps(dict(text), sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name].numpy()
        state.update(f"{name} {array.dtype} {array.shape}".encode())
        state.update(array.reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What :func:`write_tensors` stored; a missing, damaged or altered file is refused by name."""
    if not path.is_file():
        raise MissingFileError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            text = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InvalidInputError(f"{path} is not a whole file ({error}); delete it and make it again") from error
    expected = text.pop(_HASH, None)
    if expected is None:
        raise InvalidInputError(f"{path} holds no hash of its content: an older sonogym wrote it; make it again")
    if _content_hash(tensors, text) != expected:
        raise InvalidInputError(f"{path} is damaged: its content does not have the hash it was stored with")
    return tensors, text


def kept(
    path: Path,
    *,
    read: Callable[[dict[str, Tensor], dict[str, str]], T],
    make: Callable[[], T],
    pack: Callable[[T], tuple[dict[str, Tensor], dict[str, str]]],
) -> T:
    """What ``path`` of the cache holds; where it is missing or damaged, what ``make`` returns, stored there.

    A damaged entry is told on stderr. Raises :class:`InvalidInputError` where the cache cannot be written.
    """
    try:
        return read(*read_tensors(path))
    except MissingFileError:
        pass
    except (InvalidInputError, KeyError, ValueError) as error:
        print(f"sonogym: a cache entry is made again: {error}", file=sys.stderr)
    made = make()
    write_tensors(path, *pack(made))
    return made

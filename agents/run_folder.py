"""A run on disk: configuration, curves (CSV and TensorBoard), checkpoints, policy; every file whole or not there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sonogym.anatomy.cache import read_tensors, write_atomically, write_tensors
from sonogym.errors import InvalidInputError, MissingFileError

from .recipes import RunConfig, read_config, to_table
from .toml_text import toml_text


class RunFolder:
    """Paths of a run and the rows of its curve."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._writer: Any = None

    @property
    def config_file(self) -> Path:
        """The run's configuration."""
        return self.path / "config.toml"

    @property
    def policy_file(self) -> Path:
        """The policy so far."""
        return self.path / "policy.safetensors"

    @property
    def progress_file(self) -> Path:
        """The curve as CSV."""
        return self.path / "progress.csv"

    @property
    def started(self) -> bool:
        """Whether a run lies here."""
        return self.config_file.is_file()

    def start(self, config: RunConfig, resume: bool) -> None:
        """Write the configuration of a new run, or a resumed one's; an unasked-for second start is refused."""
        if self.started and not resume:
            raise InvalidInputError(f"{self.path} holds a run already: add --resume, or choose another --out")
        self.write_text(self.config_file, toml_text(to_table(config)))

    def config(self) -> RunConfig:
        """The configuration of the run that lies here."""
        if not self.started:
            raise MissingFileError(f"no run to resume in {self.path}: {self.config_file.name} is missing")
        return read_config(self.config_file)

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file whole or not at all."""
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def log(self, row: Mapping[str, float]) -> None:
        """Append a row (it names ``steps``) to the CSV and TensorBoard curves."""
        from torch.utils.tensorboard import SummaryWriter

        self.rows.append(dict(row))
        columns = list(dict.fromkeys(key for entry in self.rows for key in entry))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" for key, value in entry.items()} for entry in self.rows)
        self.write_text(self.progress_file, text.getvalue())
        if self._writer is None:
            self._writer = SummaryWriter(str(self.path / "tensorboard"), purge_step=int(row["steps"]))
        for key, value in row.items():
            self._writer.add_scalar(key, value, int(row["steps"]))

    def read_rows(self, until: int) -> None:
        """Take up the curve of an earlier sitting, up to ``until`` steps: later rows belong to work that was lost."""
        self.rows = [row for row in read_rows(self.progress_file) if row["steps"] <= until]

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def save_checkpoint(
        self, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any], facts: dict[str, Any]
    ) -> None:
        """Store weights, optimiser and plain facts; the facts come last and name the files they belong to."""
        tag = f"{facts['steps']:012d}"
        folder = self.path / "checkpoints"
        write_tensors(folder / f"{tag}.safetensors", {k: v.detach().cpu() for k, v in weights.items()}, {})
        write_atomically(folder / f"{tag}.optimizer.pt", lambda temporary: torch.save(dict(optimizer), temporary))
        self.write_text(folder / "latest.json", json.dumps({**facts, "tag": tag}, indent=2) + "\n")
        for old in sorted(folder.glob("*.safetensors"))[:-2]:
            old.with_suffix(".optimizer.pt").unlink(missing_ok=True)
            old.unlink()

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]] | None:
        """Weights, optimiser state and facts of the last checkpoint, or None before the first."""
        latest = self.path / "checkpoints" / "latest.json"
        if not latest.is_file():
            return None
        facts = json.loads(latest.read_text(encoding="utf-8"))
        weights, _ = read_tensors(latest.with_name(f"{facts['tag']}.safetensors"))
        # weights_only: tensors and plain containers, never code
        optimizer = torch.load(latest.with_name(f"{facts['tag']}.optimizer.pt"), weights_only=True, map_location="cpu")
        return weights, optimizer, facts


def read_rows(file: Path) -> list[dict[str, float]]:
    """Rows of a ``progress.csv``; empty cells are left out."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as stream:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(stream)]

"""Breaks one law after another in a copy of the package and runs the test that must notice.

`python benchmarks/mutations.py [ID ...]` prints the table of docs/mutations.md. The errors are the entries of
mutations.toml: a text that occurs once in a file, what takes its place, and the test. An entry whose test passes all
the same has SURVIVED: exit status 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSIDE = ("agents", "assets", "envs")  # shipped as parts of the package (pyproject.toml)
COMPILED = ("kernel", "contact", "long_paths", "propagation", "speckle", "voxel_word")  # sources of compiled code
DIGEST = "return hashlib.blake2b("  # in compilation.py: names the compiled code


def copied(folder: Path) -> None:
    """The package as it is installed, and its tests, under ``folder``."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("sonogym", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in INSIDE:
        shutil.copytree(ROOT / name, folder / "sonogym" / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    keep_compiled(folder, "as it is")


def keep_compiled(folder: Path, name: str) -> None:
    """Compiled code is looked up under ``name``, so that an error in a table costs no compilation."""
    file = Path("sonogym/ultrasound/compilation.py")
    text = (ROOT / file).read_text(encoding="utf-8")
    (folder / file).write_text(text.replace(DIGEST, f"return {name!r}  # ", 1), encoding="utf-8")


def run(folder: Path, entry: dict[str, str]) -> str:
    """``fails`` or ``SURVIVED``; the file is as before afterwards."""
    file = folder / entry["file"]
    text = file.read_text(encoding="utf-8")
    if text.count(entry["old"]) != 1:
        sys.exit(f"{entry['id']}: {entry['old']!r} occurs {text.count(entry['old'])} times in {entry['file']}")
    file.write_text(text.replace(entry["old"], entry["new"]), encoding="utf-8")
    compiled = file.name.startswith(COMPILED)
    keep_compiled(folder, entry["what"] if compiled else "as it is")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *entry["test"].split()]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    file.write_text(text, encoding="utf-8")
    if done.returncode not in (0, 1) or " error" in done.stdout.splitlines()[-1]:
        sys.exit(f"{entry['id']}: the test did not run\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return "fails" if done.returncode else "SURVIVED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*", help="laws to break; all without")
    wanted = parser.parse_args().ids
    entries = tomllib.loads((Path(__file__).parent / "mutations.toml").read_text(encoding="utf-8"))["mutation"]
    survived = 0
    print("| id | mutation (file) | test | result |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        for entry in entries:
            if wanted and entry["id"] not in wanted:
                continue
            result = run(Path(folder), entry)
            survived += result != "fails"
            name = Path(entry["file"]).name
            print(f"| {entry['id']} | {entry['what']} ({name}) | {entry['test']} | {result} |", flush=True)
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()

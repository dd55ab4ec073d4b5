"""The rules of the house: file length, import rules, layer order, packages as on disk. Standard library only."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = 400
LAYERS = (
    ("errors", "config", "registry", "resources", "random"),
    ("geometry",),
    ("anatomy",),
    ("ultrasound",),
    ("robot",),
    ("sim",),
    ("generative", "perception", "data"),
    ("viewer", "cli"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ROOT_ENTRIES = {
    "pyproject.toml", "README.md", "sonogym", "envs", "agents", "assets", "tests", "LICENSE", "CHANGELOG.md",
    "benchmarks", "docs", ".ci", "constraints.txt", ".gitignore", ".git",
}  # fmt: skip
GENERATED = {".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", "build", "dist", "runs", "sonogym.egg-info"}
SOURCES = sorted(path for folder in ("sonogym", "envs", "agents", "assets") for path in (ROOT / folder).rglob("*.py"))
PYTHON = SOURCES + sorted((ROOT / "tests").glob("*.py")) + sorted((ROOT / "benchmarks").glob("*.py"))


def relative(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """(level, module) of every import statement, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_file_is_at_most_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.relative_to(ROOT).parts[0] in ("envs", "agents")], ids=relative
)
def test_tasks_and_agents_reach_the_core_by_name_and_siblings_by_one_dot(path):
    for level, module in imports(path):
        assert level <= 1
        assert not re.match(r"(sonogym\.)?(envs|agents|assets)(\.|$)", module) or level == 1, module


@pytest.mark.parametrize("path", [p for p in SOURCES if p.relative_to(ROOT).parts[0] == "sonogym"], ids=relative)
def test_core_imports_only_layers_on_its_left(path):
    parts = path.relative_to(ROOT / "sonogym").with_suffix("").parts
    own = RANK.get(parts[0])
    for level, module in imports(path):
        assert level == 0, "the core imports by full name"
        names = module.split(".")
        if names[0] != "sonogym" or len(names) < 2:
            continue
        assert names[1] in RANK, f"{module} is no layer of the core"
        if own is not None:
            assert RANK[names[1]] < own or names[1] in LAYERS[own], f"{parts[0]} must not import {module}"


def test_packages_of_the_wheel_are_the_folders_on_disk():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in SOURCES if path.name == "__init__.py"}
    names = {
        ".".join(folder.parts if folder.parts[0] == "sonogym" else ("sonogym", *folder.parts)) for folder in folders
    }
    assert names == set(config["packages"])
    assert {path.parent for path in SOURCES} == {ROOT / folder for folder in folders}


def test_assets_are_data_only():
    tree = ast.parse((ROOT / "assets" / "__init__.py").read_text(encoding="utf-8"))
    assert [type(node) for node in tree.body] == [ast.Expr]


def test_root_holds_nothing_else():
    entries = {path.name for path in ROOT.iterdir() if not path.name.startswith(".venv")}
    assert entries - GENERATED <= ROOT_ENTRIES


def test_import_is_light():
    import subprocess
    import sys

    heavy = ("torch", "numba", "pybullet", "diffusers", "scipy")
    code = f"import sys, sonogym; print([module for module in {heavy} if module in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert result.stdout.strip() == "[]"

"""The snippets of docs/robots.md run one after another as a reader would run them."""

import re
from pathlib import Path

import pytest
from skin_phantom import torso

pytest.importorskip("pybullet", reason="pybullet has no wheels from Python 3.12 on")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "robots.md"


def test_every_snippet_of_the_page_runs(monkeypatch):
    monkeypatch.setattr("sonogym.anatomy.library.load_patient", lambda name: torso())
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 5
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, names)
    assert names["solution"].reached.all()
    assert 1e3 * names["depth"][0].item() == pytest.approx(10.8, abs=0.05)
    assert names["held"].reason == 0
    assert (names["margin"].least < 0.5).all()

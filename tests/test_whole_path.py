"""The shipped policy, the expert and a short training run on real frames of procedural patients."""

import json

import pytest
from typer.testing import CliRunner

from sonogym.agents.evaluate import evaluate
from sonogym.cli.main import app
from sonogym.errors import InvalidInputError

UNSEEN = "procedural:test/40-41"


def success(policy, episodes=16, environment=None):
    options = {"num_envs": 16, "patient_count": 2, "environment": environment or {}}
    return evaluate("navigation", policy, patients=UNSEEN, episodes=episodes, seed=3, **options).summary


def test_expert_reaches_every_goal():
    assert success("expert", 32)["success_rate"] >= 0.98


def test_shipped_policy_beats_chance_on_unseen_patients():
    learned, chance = success("default"), success("random", 8)
    assert learned["success_rate"] >= 0.6
    assert learned["position_error_mm"]["median"] < 0.2 * chance["position_error_mm"]["median"]


def test_train_command_ends_with_a_policy_and_a_table(tmp_path):
    options = ["--steps", "512", "--patients", UNSEEN, "--out", str(tmp_path / "run")]
    changes = ["evaluation.episodes=2", f"evaluation.patients={UNSEEN}", "num_envs=8", "ppo.batch=128"]
    settings = [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(app, ["train", "navigation", *options, *settings])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    text = json.dumps(rows)
    assert all(name in text for name in ("policy", "expert", "blind", "random"))
    assert (tmp_path / "run" / "policy.safetensors").is_file()


def test_policy_of_another_task_shape_is_refused():
    with pytest.raises(InvalidInputError, match=r"reads 'image'"):
        success("default", 2, {"lines": 32})

"""Evaluation plays what it says it plays, and its figures are those of the episodes' last states."""

import json

import numpy as np
import pytest
import toy_tasks
from PIL import Image
from toy_tasks import HORIZON, DotEnv
from typer.testing import CliRunner

from sonogym.agents.evaluate import Episodes, clustered_interval, evaluate, play, summarise
from sonogym.agents.experts import ExpertPolicy, RandomPolicy
from sonogym.agents.report import draw_curve, markdown_table, write_report
from sonogym.errors import InvalidInputError

KEYS = [
    "task", "policy", "patients", "episodes", "seed", "success_rate", "success_interval", "success_rate_10",
    "level_rate", "position_error_mm", "angle_error_deg", "return_mean", "cost_mean", "steps_mean", "wall_s",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _dot(monkeypatch):
    toy_tasks.register(monkeypatch)


def judged(policy, episodes=10, **options):
    settings = {"patients": "procedural:test", "seed": 3, "num_envs": 4, "patient_count": 8, "environment": {}}
    return evaluate("dot", policy, episodes=episodes, **{**settings, **options})


def test_summary_has_exactly_the_fixed_keys():
    summary = judged("expert").summary
    assert list(summary) == KEYS
    assert set(summary["position_error_mm"]) == {"mean", "median", "p95"}
    assert json.loads(json.dumps(summary)) == summary


def test_expert_succeeds_and_random_does_not():
    assert judged("expert").summary["success_rate"] == 1.0
    assert judged("random", 40).summary["success_rate"] < 0.4


def test_exactly_the_asked_episodes_are_played_and_shared_evenly():
    episodes, recording = play(DotEnv(4), RandomPolicy(DotEnv(4), 0), 10, seed=0)
    assert np.bincount(episodes.patient.astype(int)).tolist() == [3, 3, 2, 2]
    assert len(recording.traces) == 10
    assert set(episodes.steps) == {HORIZON}


def test_errors_are_those_of_the_last_state_not_of_the_next_episode():
    episodes, recording = play(DotEnv(3), ExpertPolicy(DotEnv(3)), 6, seed=1)
    assert episodes.position_error.max() < 1e-3
    for trace in recording.traces:
        assert len(trace.position_error) == HORIZON + 1
        assert trace.position_error[0] > 2.0 * trace.position_error[-1]
        assert np.allclose(np.linalg.norm(trace.path, axis=1), trace.position_error, atol=1e-6)


def test_same_seed_gives_the_same_figures():
    first, second = judged("random").summary, judged("random").summary
    assert {**first, "wall_s": 0} == {**second, "wall_s": 0}
    assert judged("random", seed=4).summary["return_mean"] != first["return_mean"]


def test_rates_and_units_of_known_episodes():
    ones = np.ones(4)
    episodes = Episodes(
        patient=np.array([0, 0, 1, 1]),
        position_error=np.array([0.001, 0.004, 0.009, 0.050]),
        angle_error=np.deg2rad([1.0, 4.0, 9.0, 20.0]),
        success=np.array([1.0, 1.0, 0.0, 0.0]),
        level_hit=np.array([1.0, 1.0, 1.0, 0.0]),
        total=2.0 * ones,
        cost=0.5 * ones,
        steps=10.0 * ones,
    )
    summary = summarise(episodes, seed=0)
    assert summary["success_rate"] == 0.5
    assert summary["success_rate_10"] == 0.75
    assert summary["level_rate"] == 0.75
    assert summary["position_error_mm"]["median"] == pytest.approx(6.5)
    assert summary["angle_error_deg"]["mean"] == pytest.approx(8.5)
    assert summary["success_interval"] == [0.0, 1.0]


def test_interval_is_wider_when_patients_differ_and_tightens_with_more_of_them():
    generator = np.random.default_rng(0)
    success = generator.random(400) < 0.5
    loose = clustered_interval(np.repeat(success[:20], 20).astype(float), np.repeat(np.arange(20), 20), 0)
    tight = clustered_interval(success.astype(float), np.arange(400), 0)
    assert loose[1] - loose[0] > 2.0 * (tight[1] - tight[0])
    # the normal interval of 400 independent tosses is 1.96 * 0.5 / 20 to either side
    assert tight[1] - tight[0] == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)


def test_single_patient_gets_an_interval_over_its_episodes():
    low, high = clustered_interval(np.array([1.0, 0.0] * 10), np.zeros(20), 0)
    assert low < 0.5 < high


def test_report_holds_table_plots_and_film(tmp_path):
    files = write_report(tmp_path, judged("expert", 6))
    assert {file.name for file in files} == {
        "evaluation.json", "evaluation.md", "errors.png", "paths.png", "episodes.gif",
    }  # fmt: skip
    assert all(file.stat().st_size > 0 for file in files)
    with Image.open(tmp_path / "episodes.gif") as film:
        assert film.n_frames == HORIZON // 2
    assert "| expert |" in markdown_table([json.loads((tmp_path / "evaluation.json").read_text())])


def test_curve_of_a_run_without_rows_is_not_drawn(tmp_path):
    draw_curve(tmp_path / "progress.csv", tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


@pytest.mark.parametrize("change", [{"episodes": 0}, {"seed": -1}, {"num_envs": 0}, {"environment": {"colour": 1}}])
def test_bad_arguments_are_refused(change):
    with pytest.raises(InvalidInputError):
        judged("random", **change)


def app():
    import typer

    from sonogym.cli import evaluate as evaluate_command
    from sonogym.cli import train as train_command

    made = typer.Typer()
    evaluate_command.register(made)
    train_command.register(made)
    return made


def test_evaluate_command_prints_a_table_and_writes_json_and_report(tmp_path):
    arguments = ["evaluate", "dot", "--policy", "expert", "--episodes", "4", "--num-envs", "4"]
    result = CliRunner().invoke(app(), [*arguments, "--json", str(tmp_path / "a.json"), "--out", str(tmp_path / "r")])
    assert result.exit_code == 0, result.output
    assert list(json.loads((tmp_path / "a.json").read_text())) == KEYS
    assert (tmp_path / "r" / "episodes.gif").is_file()


def test_train_command_makes_a_run_and_resumes_it(tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "num_envs = 4\n[network]\nchannels = [4]\nfeatures = 16\n[dagger]\nbatch = 32\n[evaluation]\nepisodes = 2\n"
    )
    arguments = ["train", "dot", "--recipe", str(recipe), "--out", str(tmp_path / "run")]
    first = CliRunner().invoke(app(), [*arguments, "--steps", "200"])
    assert first.exit_code == 0, first.output
    assert (tmp_path / "run" / "evaluation.md").is_file()
    second = CliRunner().invoke(app(), [*arguments, "--steps", "400", "--resume"])
    assert second.exit_code == 0, second.output
    assert json.loads((tmp_path / "run" / "checkpoints" / "latest.json").read_text())["steps"] >= 400


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_shows_examples(command):
    result = CliRunner().invoke(app(), [command, "--help"])
    assert result.exit_code == 0
    assert f"sonogym {command} navigation" in result.output

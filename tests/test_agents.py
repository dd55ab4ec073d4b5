"""Learners solve a toy task, their files come back as they went, and what does not fit is refused."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
import toy_tasks
from toy_tasks import SIDE, DotEnv

from sonogym.agents.budget import Budget
from sonogym.agents.evaluate import evaluate, play
from sonogym.agents.experts import ExpertPolicy, RandomPolicy
from sonogym.agents.learned import LearnedPolicy, observation_spec, read_policy, write_policy
from sonogym.agents.networks import NetworkConfig, PolicyNetwork
from sonogym.agents.policy import Policy, load_policy
from sonogym.agents.recipes import RunConfig, from_table, load_recipe, read_config, to_table, with_changes
from sonogym.agents.replay import Replay
from sonogym.agents.run_folder import RunFolder, read_rows
from sonogym.agents.toml_text import toml_text
from sonogym.agents.train import train
from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError
from sonogym.resources import asset_names

SMALL = ["network.channels=[8, 8]", "network.features=64", "network.pose_features=8", "network.memory_size=16"]
QUIET = ["num_envs=8", "patients=procedural:train", "evaluation.episodes=0"]


@pytest.fixture(autouse=True)
def _dot(monkeypatch):
    toy_tasks.register(monkeypatch)


def small(*changes):
    return with_changes(RunConfig(task="dot"), [*SMALL, *QUIET, *changes])


def run(config, path, resume=False, interrupt_at=None):
    budgets = []

    def on_budget(budget):
        budgets.append(budget)
        if interrupt_at:
            budget.limit_steps = interrupt_at
            budget.interrupted = False

    return train(config, path, resume, on_budget), budgets[0]


def score(path):
    options = {"patients": "procedural:test", "episodes": 16, "seed": 5, "num_envs": 8, "patient_count": 1}
    return evaluate("dot", str(path), environment={}, **options).summary


def network(memory="none", blind=False):
    config = NetworkConfig(channels=(8, 8), features=32, pose_features=8, memory=memory, memory_size=16, blind=blind)
    torch.manual_seed(0)
    return PolicyNetwork(observation_spec(DotEnv(2)), 3, config)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_dagger_learns_to_reach_the_dot(tmp_path, memory):
    options = [f"network.memory={memory}", "dagger.batch=64", "dagger.sequence=8", "dagger.rollout=16"]
    run(small("algorithm=dagger", "steps=4000", "dagger.average=0.95", *options), tmp_path / "run")
    assert score(tmp_path / "run")["success_rate"] >= 0.9


def test_ppo_learns_to_approach_the_dot(tmp_path):
    options = ["ppo.rollout=32", "ppo.batch=64", "ppo.learning_rate=3e-3", "ppo.epochs=6"]
    folder, _ = run(small("algorithm=ppo", "steps=7000", *options), tmp_path / "run")
    assert score(tmp_path / "run")["position_error_mm"]["mean"] < 7.0
    assert read_rows(folder.progress_file)


def test_blind_learner_stays_blind(tmp_path):
    run(small("algorithm=dagger", "steps=1000", "dagger.batch=64", "network.blind=true"), tmp_path / "run")
    policy = load_policy(str(tmp_path / "run"), "dot", DotEnv(2), 0)
    seen = {"image": np.zeros((2, 1, SIDE, SIDE), np.uint8), "probe_pose": np.zeros((2, 6), np.float32)}
    other = {**seen, "image": np.full((2, 1, SIDE, SIDE), 200, np.uint8)}
    assert np.array_equal(policy.act(seen, {}), policy.act(other, {}))


@pytest.mark.parametrize("algorithm", ["ppo", "dagger"])
def test_run_resumes_where_it_was_stopped(tmp_path, algorithm):
    options = ["ppo.rollout=16", "ppo.batch=64", "dagger.rollout=16", "dagger.batch=64"]
    config = small(f"algorithm={algorithm}", "steps=600", *options)
    folder, first = run(config, tmp_path / "run")
    weights = safetensors.torch.load_file(folder.policy_file)
    with pytest.raises(InvalidInputError, match="--resume"):
        run(config, tmp_path / "run")
    folder, second = run(dataclasses.replace(config, steps=1300), tmp_path / "run", resume=True)
    assert first.steps >= 600
    assert second.steps >= 1300 > first.steps
    rows = read_rows(folder.progress_file)
    assert [row["steps"] for row in rows] == sorted({row["steps"] for row in rows})
    changed = safetensors.torch.load_file(folder.policy_file)
    assert any(not torch.equal(weights[name], changed[name]) for name in weights)
    assert (folder.path / "curve.png").is_file()
    assert list((folder.path / "tensorboard").iterdir())


def test_resumed_learner_starts_from_the_saved_weights_and_optimiser(tmp_path):
    from sonogym.agents.ppo import PPORun

    config = small("algorithm=ppo", "steps=600", "ppo.rollout=16", "ppo.batch=64")
    folder, budget = run(config, tmp_path / "run")
    again = PPORun(config, RunFolder(folder.path), DotEnv(8), Budget(config, budget.steps, 1.0))
    stored = safetensors.torch.load_file(folder.policy_file)
    assert all(
        torch.equal(stored[name], value) for name, value in again.network().state_dict().items() if "goal" not in name
    )
    assert again.model.policy.optimizer.state_dict()["state"]


def test_interrupted_run_keeps_a_checkpoint_and_makes_no_table(tmp_path):
    config = small("algorithm=dagger", "minutes=5.0", "dagger.batch=64", "evaluation.episodes=4")
    folder = train(config, tmp_path / "run", False, lambda budget: budget.interrupt())
    assert folder.load_checkpoint() is not None
    assert not (folder.path / "evaluation.md").exists()


def test_ppo_starts_from_a_dagger_policy(tmp_path):
    from sonogym.agents.ppo import PPORun

    write_policy(tmp_path / "start.safetensors", network(), "dot", {}, {})
    changes = ["network.channels=[8, 8]", "network.features=32", "network.pose_features=8", "network.memory_size=16"]
    config = small("algorithm=ppo", *changes, f"init={tmp_path / 'start.safetensors'}", "ppo.batch=64")
    learner = PPORun(config, RunFolder(tmp_path / "run"), DotEnv(4), Budget(config))
    assert torch.equal(learner.network().action.weight, network().action.weight)
    with pytest.raises(InvalidInputError, match="differs"):
        PPORun(with_changes(config, ["network.features=16"]), RunFolder(tmp_path / "run"), DotEnv(4), Budget(config))


def test_end_table_compares_with_expert_and_random(tmp_path):
    config = small("algorithm=dagger", "steps=600", "dagger.batch=64", "evaluation.episodes=4")
    folder, _ = run(config, tmp_path / "run")
    rows = {row["policy"]: row for row in json.loads((folder.path / "evaluation.json").read_text())}
    assert set(rows) == {"policy", "expert", "random"}
    assert rows["expert"]["success_rate"] == 1.0
    assert "| expert |" in (folder.path / "evaluation.md").read_text()


def test_sequences_give_what_single_steps_give_and_forget_at_episode_starts():
    net = network("gru")
    observation = {
        "image": torch.randint(0, 255, (5, 2, 1, SIDE, SIDE), dtype=torch.uint8),
        "probe_pose": torch.randn(5, 2, 6),
    }
    first = torch.zeros(5, 2, dtype=torch.bool)
    first[3, 1] = True
    state = torch.randn(2, 16)
    whole, goals = net.sequence(observation, first, state)
    for time in range(5):
        state = state * (~first[time]).unsqueeze(1)
        action, goal, state = net.step({name: value[time] for name, value in observation.items()}, state)
        assert torch.allclose(action, whole[time], atol=1e-5)
        assert torch.allclose(goal, goals[time], atol=1e-5)


def test_recurrent_policy_forgets_only_the_environments_that_were_reset():
    policy = LearnedPolicy(network("gru"), {})
    observation, _ = DotEnv(2).reset(seed=0)
    fresh = policy.act(observation, {})
    later = policy.act(observation, {})
    policy.reset(np.array([True, False]))
    again = policy.act(observation, {})
    assert not np.allclose(fresh, later)
    assert np.allclose(again[0], fresh[0])
    assert not np.allclose(again[1], fresh[1])


def test_replay_draws_unbroken_stretches_and_forgets_the_oldest():
    replay = Replay(20, 2, torch.Generator().manual_seed(0))
    for step in range(17):
        value = torch.tensor([float(step), 100.0 + step])
        replay.add({"image": value.to(torch.uint8)}, first=value > 1e9, action=value, goal=value, state=value)
    drawn = replay.draw(4, 200)
    assert drawn.action.shape == (4, 200)
    assert torch.equal(drawn.action[1:] - drawn.action[:-1], torch.ones(3, 200))
    assert torch.equal(drawn.state, drawn.action[0])
    assert set((drawn.action % 100).unique().tolist()) == set(map(float, range(7, 17)))
    assert drawn.observation["image"].dtype == torch.uint8


def test_expert_is_bounded_and_heads_for_the_goal():
    expert = ExpertPolicy(DotEnv(2))
    action = expert.act({}, {"privileged": np.array([[0.2, -0.2, 0.0, 9.0], [0.001, 0.0, -3.0, 9.0]])})
    assert np.array_equal(action[0], [1.0, -1.0, 0.0])
    assert 0.0 < action[1, 0] < 0.2
    assert action[1, 2] == -1.0
    with pytest.raises(InvalidInputError, match="privileged"):
        expert.act({}, {})


def test_policies_fulfil_the_protocol():
    env = DotEnv(2)
    for policy in (ExpertPolicy(env), RandomPolicy(env, 0), LearnedPolicy(network(), {})):
        assert isinstance(policy, Policy)


def test_stored_policy_acts_as_before(tmp_path):
    net = network("gru")
    write_policy(tmp_path / "p.safetensors", net, "dot", {"plane": "x"}, {"steps": 3})
    back = load_policy(str(tmp_path / "p.safetensors"), "dot", DotEnv(2), 0)
    observation, _ = DotEnv(2).reset(seed=0)
    assert np.array_equal(back.act(observation, {}), LearnedPolicy(net, {}).act(observation, {}))


def test_policies_of_another_task_or_space_are_refused(tmp_path):
    file = tmp_path / "p.safetensors"
    write_policy(file, network(), "dot", {}, {})
    with pytest.raises(InvalidInputError, match="trained for task 'dot', not for 'navigation'"):
        read_policy(file, "navigation", DotEnv(1))
    record = file.with_suffix(".toml").read_text()
    file.with_suffix(".toml").write_text(record.replace("image = [1,", "image = [3,"))
    with pytest.raises(InvalidInputError, match=r"reads 'image' of shape \(3,"):
        read_policy(file, "dot", DotEnv(1))
    file.with_suffix(".toml").write_text(record.replace("size = 3", "size = 6"))
    with pytest.raises(InvalidInputError, match="6 actions"):
        read_policy(file, "dot", DotEnv(1))
    file.with_suffix(".toml").write_text(record.replace("features = 32", "features = 16"))
    with pytest.raises(InvalidInputError, match="do not fit"):
        read_policy(file, "dot", DotEnv(1))
    file.with_suffix(".toml").unlink()
    with pytest.raises(MissingFileError, match="beside"):
        read_policy(file, "dot", DotEnv(1))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nowhere", MissingFileError),
        ("gone.safetensors", MissingFileError),
        ("no_such_module:thing", InvalidInputError),
        ("json:gone", InvalidInputError),
        ("default", MissingFileError),
    ],
)
def test_policies_that_are_not_there_are_refused(name, error):
    with pytest.raises(error):
        load_policy(name, "dot", DotEnv(1), 0)


def test_pickles_are_refused(tmp_path):
    (tmp_path / "policy.pt").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match="no pickles"):
        load_policy(str(tmp_path / "policy.pt"), "dot", DotEnv(1), 0)


def test_policy_comes_from_code_as_object_or_function(tmp_path, monkeypatch):
    code = "import numpy as np\ndef make(env):\n    return lambda o, i: np.zeros((len(o['image']), 3))\n"
    (tmp_path / "my_policy.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    policy = load_policy("my_policy:make", "dot", DotEnv(4), 0)
    episodes, _ = play(DotEnv(4), policy, 4, 0)
    assert len(episodes.steps) == 4


@pytest.mark.parametrize("name", [n for n in asset_names("recipes", ".toml") if n.startswith("navigation_")])
def test_shipped_recipes_are_read(name):
    assert load_recipe(name.removeprefix("navigation_"), "navigation").task == "navigation"


def test_configuration_survives_its_file(tmp_path):
    config = small("environment.plane=aorta", "ppo.gamma=0.5", "network.memory=gru", "environment.noise=[1, 2]")
    (tmp_path / "config.toml").write_text(toml_text(to_table(config)))
    assert to_table(read_config(tmp_path / "config.toml")) == {**to_table(config)}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("algorithm=sac", UnknownNameError),
        ("network.memory=lstm", UnknownNameError),
        ("ppo.gamma=3.0", InvalidInputError),
        ("nonsense", InvalidInputError),
        ("ppo.gama=0.9", UnknownNameError),
        ("num_envs=many", InvalidInputError),
    ],
)
def test_bad_changes_are_refused(change, error):
    with pytest.raises(error):
        small(change)


def test_ppo_refuses_memory():
    with pytest.raises(InvalidInputError, match="without memory"):
        from_table({"algorithm": "ppo", "network": {"memory": "gru"}}, "dot")


def test_unknown_option_of_a_task_is_refused_with_its_name(tmp_path):
    with pytest.raises(InvalidInputError, match="colour"):
        run(small("environment.colour=red"), tmp_path / "run")

"""Arm, contact, force control and limits in the simulator's loop, on an analytic torso over a flat bone.

V22 and V23 of physics.md.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from rig_fixtures import BODY, bony_renderer, make, with_limits

from sonogym.envs.navigation import Navigation, navigation_config
from sonogym.errors import InvalidInputError, UnknownNameError
from sonogym.robot.admittance import StopReason
from sonogym.sim.force_control import Felt, regulate, regulate_reference
from sonogym.sim.limits import load_limits
from sonogym.sim.randomization import Randomization
from sonogym.sim.rig import force_control
from sonogym.sim.state import SAFETY_TERMS

COSTS = [f"cost/{name}" for name in SAFETY_TERMS[1:]]
STILL = np.zeros((4, 3), np.float32)


def run(env, action, steps):
    """Infos of the steps of one constant action, looking on where an episode has ended."""
    action, infos = np.tile(np.float32(action), (env.num_envs, 1)), []
    for _ in range(steps):
        infos.append(env.step(action)[-1])
        env._ended = torch.zeros_like(env._ended)
    return infos


def towards_goal(env, info):
    axes = len(env.task.action_speeds)
    return np.clip(info["privileged"][:, :axes] * 2.5 / env.task.action_speeds.numpy(), -1, 1).astype(np.float32)


def with_params(env, **changes):
    """The environment's state with other drawn parameters."""
    state = env.state
    params = dataclasses.replace(state.sim.params, **changes)
    env.state = dataclasses.replace(state, sim=dataclasses.replace(state.sim, params=params))
    return env


@pytest.mark.parametrize("mode", ["surface", "surface_tilt", "twist"])
def test_expert_reaches_the_goal_at_its_force_without_any_cost(mode):
    """V23, the nominal half: no cost, no warning, no stop; and V22 while moving over an even bone."""
    env = make(8, action_mode=mode)
    _, info = env.reset(seed=0)
    reached, forces = np.zeros(8, bool), []
    for _ in range(90):
        _, _, terminated, _, info = env.step(towards_goal(env, info))
        assert all((info[name] == 0).all() for name in COSTS)
        assert (info["stop"] == StopReason.NONE).all()
        assert (info["time_over/force_warn"] == 0).all()
        forces.append(info["force"])
        reached |= info["success"]
        if terminated.any():
            _, info = env.reset(options={"reset_mask": terminated})
    assert reached.all()
    assert np.abs(np.array(forces) - 5.0).mean() < 0.5


def test_episode_starts_at_the_set_point_of_its_environment():
    env = make(6, **{"randomization.set_point": (3.0, 8.0)})
    seen, info = env.reset(seed=1)
    assert np.allclose(info["force"], info["set_point"], atol=0.02)
    assert info["set_point"].std() > 0.5
    assert np.allclose(seen["force"], np.stack((info["force"], info["set_point"]), axis=1) / 10, atol=1e-5)
    assert np.allclose(info["indentation"], 6e-3 * np.log1p(info["set_point"]), atol=4e-3)


@pytest.mark.parametrize("bone_depth", [0.025, 0.045, 0.090])
def test_v22_a_new_set_point_is_reached_without_much_overshoot(bone_depth):
    """From 3 N to 8 N: +-.5 N within 4 s, overshoot at most 20 % of the set-point; 50 ms late."""
    env = make(4, bone_depth, **{"randomization.force_latency": (0.05, 0.05), "randomization.set_point": (3.0, 3.0)})
    env.reset(seed=0)
    sim = env.state.sim
    press = dataclasses.replace(sim.press, set_point=torch.full((4,), 8.0))
    env.state = dataclasses.replace(env.state, sim=dataclasses.replace(sim, press=press))
    force = np.array([info["force"] for info in run(env, [0, 0, 0], 60)])
    assert force.max() <= 1.2 * 8.0
    assert np.abs(force[40:] - 8.0).max() <= 0.5


def test_compiled_force_control_is_the_one_in_torch():
    """Over 40 steps with breath, noise, wrong stiffness, a set-point out of reach of some, a lost sensor and stops."""
    envs, generator = 32, torch.Generator().manual_seed(1)
    law = force_control(0.1, 0.05, 12.0)

    def drawn(low, high, *shape):
        return low + (high - low) * torch.rand(envs, *shape, generator=generator)

    tissue = Felt(force=drawn(0.0, 9.0), scale=drawn(0.0, 1.0), depth=drawn(3e-3, 1e-2), loss=drawn(0.0, 0.3))
    fused = defined = law.start(drawn(2.0, 11.0), tissue.force, drawn(0.0, 0.05))
    for step in range(40):
        error = 0.3 * torch.randn(envs, 5, generator=generator)
        error[3, 2:] = math.nan if step == 2 else 0.1
        rise = None if step < 10 else drawn(-0.02, 0.02)
        ahead = dataclasses.replace(tissue, force=tissue.force * drawn(0.7, 1.5), scale=drawn(0.0, 1.0))
        model = None if step < 20 else drawn(0.5, 2.0)
        fused = regulate(law, fused, tissue, ahead, rise, error, model)
        defined = regulate_reference(law, defined, tissue, ahead, rise, error, model)
        assert torch.equal(fused.stop, defined.stop)
        for name in ("travel", "speed", "readings", "surplus"):
            ours, theirs = getattr(fused, name), getattr(defined, name)
            assert torch.allclose(ours, theirs, rtol=2e-3, atol=2e-4, equal_nan=True), (step, name)
        tissue = dataclasses.replace(tissue, force=tissue.at(defined.travel * 0.1, defined.speed).clamp_max(20.0))
    assert {int(reason) for reason in fused.stop.unique()} >= {0, StopReason.SENSOR, StopReason.FORCE}


def test_force_sensor_is_off_by_its_bias_and_noise():
    """Force control brings the reading to the set-point, so the force is off by the bias."""
    env = make(4, **{"randomization.force_bias": 1.0})
    env.reset(seed=3)
    bias = env.state.sim.params.control.bias.numpy()
    assert np.abs(bias).max() > 0.3
    info = run(env, [0, 0, 0], 40)[-1]
    assert np.allclose(info["force"], 5.0 - bias, atol=0.05)
    noisy = make(4, **{"randomization.force_noise": 0.5})
    noisy.reset(seed=3)
    readings = []
    for _ in range(40):
        seen, *_ = noisy.step(STILL)
        readings.append(10 * seen["force"][:, 0])
    spread, drawn = np.array(readings).std(0), noisy.state.sim.params.control.noise.numpy()
    assert np.all(spread > 0.5 * drawn)
    assert np.all(spread < 3.0 * drawn + 0.02)


def test_a_command_is_carried_out_late_by_its_latency():
    env = make(
        2, robot=None, contact=False, observation=("probe_pose",), **{"randomization.command_latency": (0.1, 0.1)}
    )
    env.reset(seed=0)
    moved = [run(env, [1, 0, 0], 1)[0]["path"].copy() for _ in range(3)]
    assert np.allclose(moved[0], 0.0, atol=1e-5)
    assert np.allclose(moved[1], 3e-3, atol=2e-4)


def test_gel_and_stiffness_of_the_episode_reach_the_image():
    env = make(3, **{"randomization.gel": (1e-3, 4e-3), "randomization.stiffness": (0.5, 2.0)})
    env.reset(seed=0)
    asked = []

    class Listening(type(env.task.simulator.renderer)):
        def render(self, pose, index, params):
            asked.append(params)
            return super().render(pose, index, params)

    sim, drawn = env.state.sim, env.state.sim.params.contact
    dataclasses.replace(env.task.simulator, renderer=Listening((BODY,))).render(sim)
    assert torch.equal(asked[0].gel, drawn.gel)
    assert torch.equal(asked[0].stiffness, drawn.stiffness)
    assert drawn.gel.std() > 0 < drawn.stiffness.std()


def test_without_options_nothing_of_the_rig_is_there():
    env = make(2, recipe=None, observation=("probe_pose",))
    _, info = env.reset(seed=0)
    sim = env.state.sim
    assert env.task.simulator.rig is None
    assert all(
        getattr(sim, name) is None for name in ("wanted", "touch", "press", "robot", "queue", "safety", "reading")
    )
    assert not any(name.startswith(("time_over", "force", "stop")) for name in info)


# scripted violations: options of the environment, limits changed, action, the stop that must come
DOWN, UP = [0, 0, 1, 0, 0, 0], [0, 0.3, -1, 0, 0, 0]
BORDER = {"max_linear_speed": 0.09, "randomization.yaw": 0.0}
VIOLATIONS = {
    "force": ({"action_mode": "twist"}, {}, DOWN, StopReason.FORCE),
    "pressure": ({"action_mode": "twist"}, {"pressure_cost": 2e4, "pressure_stop": 3e4}, DOWN, StopReason.PRESSURE),
    "speed": ({"max_linear_speed": 0.2}, {"speed_stop": 0.15}, [0, 1, 0], StopReason.SPEED),
    "workspace": (BORDER, {"workspace_stop": 1.0}, [0, 1, 0], StopReason.WORKSPACE),
    "contact": ({"action_mode": "twist"}, {"contact_stop": 1.0}, UP, StopReason.CONTACT),
}


@pytest.mark.parametrize("cause", VIOLATIONS)
def test_v23_a_violation_costs_stops_and_says_why(cause):
    options, limits, action, reason = VIOLATIONS[cause]
    env = with_limits(make(4, robot=None, **options), **limits)
    env.reset(seed=0)
    infos = run(env, action, 40)
    assert sum(info[f"cost/{cause}"] for info in infos).min() >= 1
    assert (infos[-1]["stop"] == reason).all()
    if cause in ("force", "pressure"):
        assert any(((info[f"cost/{cause}"] > 0) & (info["stop"] == StopReason.NONE)).any() for info in infos)
    over = 0.1 * sum(info[f"cost/{cause}"] for info in infos)
    assert np.allclose(infos[-1][f"time_over/{cause}"], over, atol=1e-4)
    assert not infos[-1]["success"].any()


def test_v23_an_arm_that_cannot_follow_costs_and_stops():
    env = make(2, contact=False, observation=("probe_pose",), max_linear_speed=0.09)
    env = with_limits(env, reach_stop=0.55)
    env.reset(seed=0)
    rig = env.task.simulator.rig
    arm = rig.stand.robot.arm
    chain = dataclasses.replace(arm.chain, speed=0.01 * arm.chain.speed)
    robot = dataclasses.replace(rig.stand.robot, arm=dataclasses.replace(arm, chain=chain))
    rig = dataclasses.replace(rig, stand=dataclasses.replace(rig.stand, robot=robot))
    env.task.simulator = dataclasses.replace(env.task.simulator, rig=rig)
    infos = run(env, [1, 0, 0], 5)
    assert all((info["cost/joint"] == 1).all() for info in infos)
    assert (run(env, [1, 0, 0], 2)[-1]["stop"] == StopReason.REACH).all()


def test_a_lost_force_reading_stops_the_robot():
    env = make(2, robot=None)
    env.reset(seed=0)
    control = env.state.sim.params.control
    with_params(env, control=dataclasses.replace(control, bias=torch.tensor([math.nan, 0.0])))
    info = run(env, [0, 0, 0], 1)[-1]
    assert info["stop"].tolist() == [StopReason.SENSOR, StopReason.NONE]


def test_a_stopped_probe_stands_still_and_the_others_go_on():
    env = make(2, robot=None)
    env.reset(seed=0)
    safety = dataclasses.replace(env.state.sim.safety, stop=torch.tensor([int(StopReason.FORCE), 0]))
    env.state = dataclasses.replace(env.state, sim=dataclasses.replace(env.state.sim, safety=safety))
    before = env.state.sim.patient_from_probe.translation.clone()
    info = run(env, [1, 0, 0], 1)[-1]
    moved = (env.state.sim.patient_from_probe.translation - before).norm(dim=-1)
    assert moved[0] == 0.0
    assert moved[1] > 1e-3
    assert info["stop"].tolist() == [StopReason.FORCE, StopReason.NONE]


def test_environment_has_the_same_episode_in_any_batch():
    alone, several = make(1), make(3)
    for env in (alone, several):
        env.reset(seed=5)
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 3, 3)).astype(np.float32)
    for action in actions:
        info, infos = alone.step(action[:1])[-1], several.step(action)[-1]
        assert np.allclose(info["force"], infos["force"][:1], atol=2e-2)
        assert np.allclose(info["privileged"], infos["privileged"][:1], atol=5e-4)


def test_joints_are_seen_over_their_ranges():
    env = make(2, observation=("joints",))
    seen, _ = env.reset(seed=0)
    chain, q = env.task.simulator.rig.stand.robot.arm.chain, env.state.sim.robot.joint_position
    assert env.observation_space.contains(seen)
    assert np.allclose(seen["joints"], 2 * ((q - chain.lower) / (chain.upper - chain.lower)) - 1, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"randomization.set_point": (5.0, 25.0)}, "set_point must lie below the force that stops the robot, 21 N"),
        ({"randomization.stiffness": (0.0, 1.0)}, "stiffness"),
        ({"limits": "strict"}, "unknown limits 'strict'"),
        ({"arm": "ur5"}, "kuka_iiwa"),
        ({"robot": None, "observation": ("joints",)}, "needs robot='kinematic'"),
        ({"contact": False, "observation": ("force",)}, "needs contact=True"),
        ({"randomization.command_latency": (0.0, 50.0)}, "command_latency"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises((InvalidInputError, UnknownNameError), match=message):
        make(1, **options)


def test_start_out_of_reach_is_refused_by_the_patients_name(tmp_path):
    """An arm whose scan lies 2 m off its base."""
    from sonogym.resources import read_toml

    table = read_toml("robots", "kuka_iiwa", "arm") | {"scan_at_mm": [2000, 0, 0]}
    lines = [f"{key} = {value!r}".replace("'", '"') for key, value in table.items()]
    (tmp_path / "far.toml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is in reach of 'kuka_iiwa'"):
        make(1, arm=str(tmp_path / "far.toml"))


def test_limits_file_with_a_stop_below_its_cost_or_a_missing_key_is_refused(tmp_path):
    from sonogym.resources import read_toml

    table = read_toml("limits", "default", "limits")
    for changes, message in (
        ({"force_stop_n": 10}, "force_cost must not exceed force_stop"),
        ({"force_warn_n": None}, "lacks"),
    ):
        lines = [
            f"{k} = {v!r}".replace("'", '"')
            for k, v in {**table, **changes}.items()
            if v is not None and k != "regions"
        ]
        lines += ["[regions]", *(f"{k} = {v}" for k, v in table["regions"].items())]
        (tmp_path / "bad.toml").write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(InvalidInputError, match=message):
            load_limits(str(tmp_path / "bad.toml"))


def test_wide_randomization_varies_contact_latency_and_breath():
    wide = Randomization.wide()
    task = Navigation(navigation_config("robotic", lines=16, samples=16, observation=("force",)), bony_renderer())
    from sonogym.random import Streams

    rows = torch.arange(64)
    params = wide.draw(Streams(0, rows, 0 * rows, 0 * rows), task.region, contact=True)
    for value in (params.contact.stiffness, params.contact.friction, params.contact.gel, params.control.set_point,
                  params.control.latency, params.command_latency, params.breathing.amplitude):  # fmt: skip
        assert value.std() > 0
    plain = Randomization().draw(Streams(0, rows, 0 * rows, 0 * rows), task.region, contact=True)
    assert (plain.contact.stiffness == 1).all()
    assert plain.command_latency is None
    assert plain.breathing is None

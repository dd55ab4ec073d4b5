"""Arms in double precision, random postures, and a two-joint robot whose numbers can be checked by hand."""

import torch

from sonogym.robot.arm import load_arm

ARMS = ("kuka_iiwa", "franka_panda")

PLANAR = """<robot name="planar">
  <link name="base"/>
  <link name="upper"><collision><origin xyz="0.2 0 0" rpy="0 1.5707963267948966 0"/>
    <geometry><cylinder radius="0.03" length="0.4"/></geometry></collision></link>
  <link name="lower"><collision><origin xyz="0.15 0 0"/>
    <geometry><box size="0.3 0.04 0.04"/></geometry></collision></link>
  <link name="tip"/>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 0 2"/>
    <limit lower="-3" upper="3" velocity="1" effort="1"/></joint>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="lower"/>
    <origin xyz="0.4 0 0"/><axis xyz="0 0 1"/>
    <limit lower="-2.5" upper="2.5" velocity="2" effort="1"/></joint>
  <joint name="wrist" type="fixed"><parent link="lower"/><child link="tip"/><origin xyz="0.3 0 0"/></joint>
</robot>
"""


def arm(name, tool="flange", dtype=torch.float64):
    return load_arm(name, tool=tool, dtype=dtype)


def postures(which, count, seed=0, margin=0.0):
    """Uniform over the joint ranges, kept off the limits by a share of the range."""
    unit = torch.rand(count, len(which.home), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    unit = (margin + (1.0 - 2.0 * margin) * unit).to(which.home)
    return which.chain.lower + unit * (which.chain.upper - which.chain.lower)

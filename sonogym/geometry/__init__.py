"""Rotations, poses and voxel grids."""

from sonogym.geometry.pose import Pose

__all__ = ["Pose"]

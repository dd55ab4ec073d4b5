"""Gymnasium tasks on the simulator."""

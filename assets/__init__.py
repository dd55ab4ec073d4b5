"""Data read by name through ``sonogym.resources``."""

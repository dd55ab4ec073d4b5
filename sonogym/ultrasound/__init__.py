"""Transducers, tissue acoustics and the renderer."""

"""Seeded procedural torsos."""

"""The ``sonogym`` command."""

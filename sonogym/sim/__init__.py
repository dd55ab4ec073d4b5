"""The vectorised simulator: state in, state out; it knows no reward."""

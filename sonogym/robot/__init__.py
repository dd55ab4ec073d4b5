"""How the probe moves on the patient."""

"""How the probe moves on the patient, and the arms that carry it."""

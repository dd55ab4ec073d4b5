"""Quality assurance of a simulated scanner with a virtual phantom, as physicists test real ones."""

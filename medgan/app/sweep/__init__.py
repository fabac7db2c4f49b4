"""Trainings with several settings, compared by the figure that chooses their weights."""

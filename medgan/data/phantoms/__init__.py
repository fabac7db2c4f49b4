"""Generated head phantoms: the cohort of the demo."""

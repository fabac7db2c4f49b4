"""Where runs are recorded and models registered."""

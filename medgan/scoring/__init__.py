"""Score maps, and what turns them into a calibrated score."""

"""Scorers, score maps, calibration, comparability, regions and alarms."""

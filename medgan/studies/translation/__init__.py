"""Translated images of held-out patients against real ones, beside floors."""

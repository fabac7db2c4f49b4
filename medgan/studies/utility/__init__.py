"""The utility study."""

"""How near translated images are to real ones."""

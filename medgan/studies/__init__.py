"""Models measured against data: what is written is a table, a picture, a verdict."""

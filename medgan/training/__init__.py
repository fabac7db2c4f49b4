"""The training: one loop, its two steps, and what a checkpoint holds."""

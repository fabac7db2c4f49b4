"""The model: generation, reconstruction, scores, and how it is stored."""

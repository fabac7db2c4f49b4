"""From files on disk to batches: index, checks, transforms, loaders and phantoms."""

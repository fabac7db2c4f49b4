"""Pages, plots and images."""

"""Studies of models: fidelity, utility, privacy, detection and comparison with baselines."""

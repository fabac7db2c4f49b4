"""How soon samples of generators come near to real scans."""

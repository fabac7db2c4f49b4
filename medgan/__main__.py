"""`python -m medgan`."""

from medgan.cli import main

main()

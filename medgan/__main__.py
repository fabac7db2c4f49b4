"""`python -m medgan`."""

from medgan.app.cli import main

main()

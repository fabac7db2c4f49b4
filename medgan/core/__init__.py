"""What every room may use: settings, errors, volumes, files, progress, the machine."""

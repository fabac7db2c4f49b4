"""The command line, pipeline files and their steps, presets, the doctor, the speed benchmark."""

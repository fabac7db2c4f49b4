#!/bin/sh
# MOOD challenge, pixel task: run_pixel.sh INPUT OUTPUT, as /workspace/run_pixel_brain.sh of an image.
# The model folder is /workspace/model, or MEDGAN_MODEL; nothing outside OUTPUT is written.
set -eu
mkdir -p "$2/.scratch"
trap 'rm -rf "$2/.scratch"' EXIT
export TMPDIR="$2/.scratch" HOME="$2/.scratch"
medgan score "${MEDGAN_MODEL:-/workspace/model}" "$1" --format mood --task pixel -o "$2"

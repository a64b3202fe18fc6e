#!/bin/sh
# Make (or bring up to date) a virtual environment with HEAR's own tools and this package.
#
# usage: tools/heareval/install.sh [VENV]      (default .venv-heareval; PYTHON=… picks the interpreter)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
exec "${PYTHON:-python3}" "$root/hear_audiomamba/evaluate/kit/install.py" "${1:-$root/.venv-heareval}"

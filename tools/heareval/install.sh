#!/bin/sh
# Make (or bring up to date) a virtual environment with HEAR's own tools and this package.
#
# usage: tools/heareval/install.sh [VENV]      (default .venv-heareval; PYTHON=… picks the interpreter)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=${1:-$root/.venv-heareval}
stamp=$venv/.heareval-installed
want=$(cat "$here"/*.txt "$here/install.sh" "$root/hear_audiomamba/evaluate/tensorflow_standin.py" | sha256sum)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
    echo "$venv is up to date"
    touch "$stamp"
    exit 0
fi

[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
python=$venv/bin/python
# Byte-compiling 1.5 GB of packages takes longer than everything else; Python does it on first import.
pip() { "$python" -m pip --disable-pip-version-check install --quiet --no-compile "$@"; }

"$python" -c "import torch" 2>/dev/null || pip torch==2.13.0
pip -r "$here/requirements.txt"
pip --no-deps --ignore-requires-python --no-build-isolation -r "$here/tools.txt"
pip --no-deps --no-build-isolation --editable "$root"

# Both tools import TensorFlow only to ask whether a model is a tf.Module. A stand-in answers where none is installed;
# one of an earlier run is refreshed, and a real TensorFlow stays as it is.
packages=$("$python" -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
found=$("$python" -c "import importlib.util as u; s = u.find_spec('tensorflow'); print(s.origin if s else '')")
case $found in
    "" | "$packages/tensorflow.py") cp "$root/hear_audiomamba/evaluate/tensorflow_standin.py" "$packages/tensorflow.py" ;;
esac
printf '%s\n' "$want" > "$stamp"
echo "HEAR's tools are installed in $venv"

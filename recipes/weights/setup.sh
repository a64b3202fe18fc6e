#!/bin/sh
# What the open corpus and its teachers need, on Debian or Ubuntu. Packages of recordings are fetched by the builder.
set -eu

apt-get update
apt-get install -y --no-install-recommends ffmpeg fluidsynth timgm6mb-soundfont csound-soundfont mma openttd-openmsx \
    festival festival-czech festvox-czech-dita festvox-czech-krb festvox-czech-machac festvox-czech-ph \
    festvox-suopuhe-lj festvox-suopuhe-mv festvox-italp16k festvox-itapc16k festival-ca festvox-ca-ona-hts \
    opl3-soundfont

"${PYTHON:-python3}" -m pip install py-nanotts pyarrow soxr soundfile tensorflow-cpu onnxruntime librosa
"${PYTHON:-python3}" -m pip install --no-deps --require-hashes -r "$(dirname "$0")/teachers.txt"

#!/bin/sh
# ssam_tiny_200_16x4.open-distilled from nothing: corpus, teachers, seven stages of training, the file in weights/.
#   sh weights/recipes/open-distilled/run.sh FOLDER    (some 15 GB and hours; each step goes on where it stopped)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:?give a folder for corpus, targets and runs}
python=${PYTHON:-python3}
audiomamba() { "$python" -m hear_audiomamba "$@"; }

audiomamba corpus build "$work/corpus" --cache "$work/packages" --max-hours-per-source 0.3
audiomamba corpus targets "$work/corpus" "$work/targets-first" --crops 14000 --shares "$here/shares-first.yaml"
audiomamba corpus targets "$work/corpus" "$work/targets" --crops 37000 --shares "$here/shares.yaml"

stage() { # number, targets, start
    audiomamba pretrain "$here/stage$1.yaml" --resume data.path="$work/corpus" distill.targets="$work/$2" \
        run.out="$work/stage$1" ${3:+init="$work/$3"}
}
stage 1 targets-first
stage 2 targets-first stage1/model.safetensors
stage 3 targets-first stage2/model.safetensors
stage 4 targets-first stage3
stage 5 targets stage4
stage 6 targets stage5
stage 7 targets stage6

"$python" "$here/../finish.py" "$work/stage7/model.safetensors" ssam_tiny_200_16x4.open-distilled \
    --notes "$here/notes.json" --default

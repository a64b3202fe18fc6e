#!/bin/sh
# ssam_tiny_200_16x4.open-distilled from nothing: corpus, teachers, eleven stages of training, the file in weights/.
#   sh recipes/weights/open-distilled/run.sh FOLDER            some 20 GB and hours; each step goes on where it stopped
#   QUICK=1 sh recipes/weights/open-distilled/run.sh FOLDER    the same way in minutes: few sounds, few steps of each
#                                                              stage, and the file in FOLDER/weights
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
mkdir -p "${1:?give a folder for corpus, targets and runs}"
work=$(cd "$1" && pwd)
python=${PYTHON:-python3}
audiomamba() { "$python" -m hear_audiomamba "$@"; }
corpus() { (cd "$top" && "$python" -m recipes.corpus "$@"); }

weights=$top/weights
limits="--max-hours-per-source 0.3"
first=14000 second=37000 last=43500 third=162000 fourth=110000 fifth=23000 few=
if [ -n "${QUICK:-}" ]; then
    limits="--max-hours-per-source 0.01 --max-sounds-per-source 400"
    for source in oxygen yaru festvox-ru solarwolf xmoto notes chords drums tones textures pico variants many; do
        limits="$limits --only $source"
    done
    first=400 second=500 last=500 third=600 fourth=500 fifth=200 few="optim.steps=3 optim.warmup_steps=1 optim.batch=12"
    weights=$work/weights
    mkdir -p "$weights"
    cp "$top/weights/manifest.json" "$weights"
fi

# shellcheck disable=SC2086  # the limits are several words
corpus build "$work/corpus" --cache "$work/packages" $limits

targets() { # folder, shares, crops, seed, sources that the networks do not hear, folder whose answers come first
    corpus targets "$work/corpus" "$work/$1" --crops "$3" --shares "$here/$2.yaml" --seed "$4" \
        --teachers spectrum,contour,yamnet,speech,speaker,labels ${5:+--unheard "$5"} ${6:+--earlier "$work/$6"}
}
targets targets-first shares-first $first 0
targets targets shares $second 0
targets targets-last shares-last $last 1
# The few new crops of a quick run lack some labels, so it keeps the earlier crops as well.
targets targets-third shares-third $third 2 many- ${QUICK:+targets-last}
targets targets-fourth shares-fourth $fourth 4 many- ${QUICK:+targets-third}
targets targets-fifth shares-fifth $fifth 5 many- targets-fourth

stage() { # number, targets, start
    # shellcheck disable=SC2086  # the settings are several words
    audiomamba pretrain "$here/stage$1.yaml" --resume data.path="$work/corpus" distill.targets="$work/$2" \
        run.out="$work/stage$1" ${3:+init="$work/$3"} $few
}
stage 1 targets-first
stage 2 targets-first stage1/model.safetensors
stage 3 targets-first stage2/model.safetensors
stage 4 targets-first stage3
stage 5 targets stage4
stage 6 targets stage5
stage 7 targets stage6
stage 8 targets-last stage7
stage 9 targets-third stage8
stage 10 targets-fourth stage9
stage 11 targets-fifth stage10

"$python" "$here/../finish.py" "$work/stage11/model.safetensors" ssam_tiny_200_16x4.open-distilled \
    --notes "$here/notes.json" --timestamp-smoothing-ms 240 --default --out "$weights"

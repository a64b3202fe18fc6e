#!/bin/sh
# hiermamba_nano.open-tagger and ssamba_tiny.open from nothing: corpus, teachers, one training each, files in weights/.
#   sh recipes/weights/open-families/run.sh FOLDER           some 15 GB and hours; each step goes on where it stopped
#   QUICK=1 sh recipes/weights/open-families/run.sh FOLDER   the same way in minutes: few sounds, few steps, and the
#                                                            files in FOLDER/weights
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:?give a folder for corpus, targets and runs}
mkdir -p "$work"
work=$(cd "$work" && pwd)
python=${PYTHON:-python3}
cd "$here/../../.."

weights=weights limits="--max-hours-per-source 0.35" crops=17600 few=
if [ -n "${QUICK:-}" ]; then
    limits="--max-hours-per-source 0.01 --max-sounds-per-source 60"
    for source in oxygen yaru festvox-ru xmoto notes chords drums tones textures pico babble festival variants; do
        limits="$limits --only $source"
    done
    crops=400 few="optim.steps=3 optim.warmup_steps=1"
    weights=$work/weights
    mkdir -p "$weights"
    cp weights/manifest.json "$weights"
fi

# shellcheck disable=SC2086  # the limits are several words
"$python" -m recipes.corpus build "$work/corpus" --recipe "$here/corpus.yaml" --cache "$work/packages" $limits
"$python" -m recipes.corpus targets "$work/corpus" "$work/targets" --crops "$crops" --shares "$here/shares.yaml" \
    --teachers own,yamnet,yamnet_tags,effects,speech,spectrum,contour,labels

train() { # variant, tag
    # shellcheck disable=SC2086  # the settings are several words
    "$python" -m hear_audiomamba pretrain "$here/$1.yaml" --resume data.path="$work/corpus" \
        distill.targets="$work/targets" run.out="$work/$1" $few
    model=$work/$1/model.safetensors
    if [ "$1" = hiermamba_nano ]; then
        "$python" -m recipes.weights.refit_tags "$model" "$work/corpus" "$work/targets" "$work/$1/refitted.safetensors" \
            --fresh-seed 7
        model=$work/$1/refitted.safetensors
    fi
    "$python" recipes/weights/finish.py "$model" "$1.$2" --notes "$here/$1.json" \
        --timestamp-smoothing-ms 240 --default --out "$weights"
}
train hiermamba_nano open-tagger
train ssamba_tiny open

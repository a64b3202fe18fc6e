#!/bin/sh
# The three bundled models from nothing: a corpus, what the teachers say of it, a training each, and weights files.
#   sh recipes/weights/run.sh FOLDER            some 15 GB and a day of two cores; each step goes on where it stopped
#   QUICK=1 sh recipes/weights/run.sh FOLDER    the same way in minutes, with few sounds and few steps
# The files lie in FOLDER/weights at the end; the bundled ones stay as they are.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:?give a folder for corpus, targets and runs}
mkdir -p "$work/weights"
work=$(cd "$work" && pwd)
python=${PYTHON:-python3}
cd "$here/../.."
[ -f "$work/weights/manifest.json" ] || cp weights/manifest.json "$work/weights"

limits="--max-hours-per-source 0.4" crops=78600 few=
if [ -n "${QUICK:-}" ]; then
    limits="--max-hours-per-source 0.01 --max-sounds-per-source 60"
    for source in oxygen yaru festvox-ru xmoto notes chords drums tones textures pico babble festival variants; do
        limits="$limits --only $source"
    done
    crops=400 few="optim.steps=3 optim.warmup_steps=1"
fi

# shellcheck disable=SC2086  # the limits are several words
"$python" -m recipes.corpus build "$work/corpus" --recipe "$here/open-corpus.yaml" --cache "$work/packages" $limits
"$python" -m recipes.corpus targets "$work/corpus" "$work/targets" --crops "$crops" --shares "$here/shares.yaml" \
    --teachers own,yamnet,yamnet_tags,effects,speech,spectrum,contour,labels

for variant in ssam_tiny_200_16x4 ssamba_tiny hiermamba_nano; do
    # shellcheck disable=SC2086  # the settings are several words
    "$python" -m hear_audiomamba pretrain "$here/$variant.yaml" --resume data.path="$work/corpus" \
        distill.targets="$work/targets" run.out="$work/$variant" $few
    "$python" recipes/weights/finish.py "$work/$variant/model.safetensors" "$variant.mine" \
        --notes "$here/$variant.json" --timestamp-smoothing-ms 240 --out "$work/weights"
done

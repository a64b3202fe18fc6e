"""Does a clip's embedding depend on what shares its batch? Our models and others', each through its own way of
taking several clips.

    python benchmarks/batch_invariance.py CLIPS… [--models NAME…] [--json results.json]

CLIPS are files, or folders of them. Each clip is embedded alone, beside a clip of the same length, and beside one three
times as long. The table has the largest relative change over all clips: the norm of the difference over the norm of
the embedding alone. Peers need what recipes/weights/setup.sh installs, and `transformers`; those that are missing are
named and left out. TensorFlow and `transformers` may not load into one process: then give `--models`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from timing import write

from hear_audiomamba import load_model
from hear_audiomamba.adapters.clips import embed_clips
from hear_audiomamba.embedding.recordings import read_recording
from hear_audiomamba.errors import AudioMambaError

SAMPLE_RATE = 16000
SECONDS = 1.5
LONGER = 3
OURS = ("ssam_tiny_200_16x4", "ssamba_tiny", "hiermamba_tiny", "ssast_tiny_200_16x4")
PEERS = {
    "yamnet": "YAMNet",
    "speech": "Google speech embedding",
    "speaker": "Resemblyzer",
    "effects": "aiSFX",
}
RANDOM = "random weights: whether, not how much"

Clips = Sequence[NDArray[np.float32]]
Embed = Callable[[Clips], NDArray[np.float32]]


def ours(variant: str) -> tuple[Embed, str]:
    """Return our own call for clips of any lengths, and a note on the weights."""
    import warnings

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = load_model(variant=variant)

    def embed(clips: Clips) -> NDArray[np.float32]:
        with torch.inference_mode():
            return embed_clips(model, clips).numpy()

    return embed, RANDOM if said else ""


def teacher(name: str) -> tuple[Embed, str]:
    """Return a peer as recipes/corpus runs it: its network, with the weights of its package."""
    from recipes.corpus.teachers import make_teacher

    found = make_teacher(name, Path())
    return lambda clips: np.asarray(found.embed(clips, [""] * len(clips))), ""


def of_transformers(kind: str) -> tuple[Embed, str]:
    """Return a model of the transformers library at its standard size, with its own padding of shorter clips."""
    import transformers

    torch.manual_seed(0)
    if kind == "wav2vec2":
        # The base models normalise over time and take no attention mask: their documentation asks for zeros.
        model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).eval()
        extract = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    else:
        model = transformers.ASTModel(transformers.ASTConfig()).eval()
        extract = transformers.ASTFeatureExtractor()

    def embed(clips: Clips) -> NDArray[np.float32]:
        given = extract(list(clips), sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt")
        with torch.inference_mode():
            return model(given.input_values).last_hidden_state.mean(1).numpy()

    return embed, RANDOM


def changes(embed: Embed, clips: Clips) -> dict[str, float]:
    """Return the largest relative change beside a clip of the same length and beside a longer one."""
    worst = {"same_length": 0.0, "longer": 0.0}
    for place, clip in enumerate(clips):
        mate = clips[place - 1]
        alone = embed([clip])[0]
        for name, beside in (("same_length", mate), ("longer", np.tile(mate, LONGER))):
            change = np.linalg.norm(embed([clip, beside])[0] - alone) / np.linalg.norm(alone)
            worst[name] = max(worst[name], float(change))
    return worst


def read_clips(given: Sequence[Path], count: int) -> list[NDArray[np.float32]]:
    """Return the first clips that are long enough, cut to one length."""
    files = [f for path in given for f in (sorted(path.rglob("*.wav")) if path.is_dir() else [path])]
    length = round(SECONDS * SAMPLE_RATE)
    clips = [np.asarray(read_recording(file, SAMPLE_RATE), dtype=np.float32) for file in files[: 20 * count]]
    clips = [np.resize(clip, length) if len(clip) < length else clip[:length] for clip in clips if clip.any()]
    if len(clips) < 2:
        sys.exit("two clips at least are needed")
    return clips[:: max(1, len(clips) // count)][:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=8, help="of clips")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these, as the table calls them")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    clips = read_clips(args.clips, args.count)
    models: list[tuple[str, Callable[[], tuple[Embed, str]]]] = [(v, lambda v=v: ours(v)) for v in OURS]
    models += [(title, lambda name=name: teacher(name)) for name, title in PEERS.items()]
    models += [
        ("wav2vec 2.0 base", lambda: of_transformers("wav2vec2")),
        ("AST", lambda: of_transformers("ast")),
    ]
    print(
        "| model | beside a clip of the same length | beside a longer clip | |\n| --- | ---: | ---: | --- |"
    )
    rows = []
    for title, make in models:
        if args.models and title not in args.models:
            continue
        try:
            embed, note = make()
            found = changes(embed, clips)
        except (AudioMambaError, ImportError) as error:
            print(f"{title} is left out: {error}", file=sys.stderr)
            continue
        rows.append({"model": title, "note": note, **found})
        print(f"| {title} | {found['same_length']:.1e} | {found['longer']:.1e} | {note} |", flush=True)
        write(args.json, {"clips": len(clips), "seconds": SECONDS, "longer": LONGER, "rows": rows})


if __name__ == "__main__":
    main()

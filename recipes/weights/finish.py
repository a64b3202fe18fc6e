"""Turn a run's model into bundled weights: full depth, float16, an entry in the manifest.

A run may train fewer blocks than the variant has. The missing ones are added with an output projection
of zeros, so they pass their input on unchanged and the embeddings stay what they were; further training
can put them to use.

    python recipes/weights/finish.py RUN/model.safetensors ssam_tiny_200_16x4.mine --notes notes.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from hear_audiomamba.io.files import sha256_of, write_text
from hear_audiomamba.models.families import build_modules
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.models.weights import own_metadata, read_safetensors, save_weights
from hear_audiomamba.pretrain.run.grow import blocks_of, deepen

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
PROBE_SECONDS = 3


def main() -> None:
    """Write the weights file and its manifest entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model.safetensors of a run")
    parser.add_argument("name", help="variant.tag of the bundled weights")
    parser.add_argument(
        "--notes", type=Path, required=True, help="JSON with licence, source, recipe and other facts"
    )
    parser.add_argument(
        "--timestamp-smoothing-ms", type=float, default=0.0,
        help="time constant with which rows are averaged for timestamp embeddings",
    )  # fmt: skip
    parser.add_argument("--default", action="store_true", help="make it the variant's default")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights and their manifest")
    args = parser.parse_args()

    variant, tag = args.name.split(".", 1)
    state, metadata = read_safetensors(args.model)
    trained, _ = own_metadata(metadata)
    notes = json.loads(args.notes.read_text(encoding="utf-8"))
    config = find_variant(variant).config.replace(
        scene_pooling=trained.scene_pooling,
        timestamp_smoothing_ms=args.timestamp_smoothing_ms,
        labels=trained.labels,
    )
    trained_depth = blocks_of(state)
    whole = config
    if 0 < trained_depth < config.encoder.depth:
        config = config.replace(encoder=config.encoder.replace(trained_depth=trained_depth))
    torch.manual_seed(0)
    grown = deepen(state, build_modules(config)[1])
    with torch.inference_mode():
        audio = torch.randn(2, PROBE_SECONDS * config.features.sample_rate)
        both = []
        for model, weights in ((trained, state), (whole, grown)):
            features, encoder = build_modules(model)
            encoder.load_state_dict(weights, strict=False)
            encoder.eval()
            both.append(encoder.embed_frames(features(audio)[:, :200]))
        gap = float((both[0] - both[1]).abs().max())
    if gap > 1e-5:
        raise SystemExit(f"the grown model differs by {gap:.2g}")

    path = save_weights(
        args.out / f"{args.name}.safetensors", grown, config, dtype=torch.float16, notes=notes
    )
    listing = json.loads((args.out / "manifest.json").read_text(encoding="utf-8"))
    listing["weights"][args.name] = {
        "file": path.name,
        "sha256": sha256_of(path),
        "bytes": path.stat().st_size,
        "licence": notes["licence"],
        "source": notes["source"],
        "recipe": notes["recipe"],
    }
    if args.default:
        listing["defaults"][variant] = tag
    write_text(args.out / "manifest.json", json.dumps(listing, indent=2) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes, grown model within {gap:.1g} of the run's")


if __name__ == "__main__":
    main()

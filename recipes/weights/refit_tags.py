"""Give a hierarchical model's last stage centred inputs, and fit its tagging head by logistic regression.

    python -m recipes.weights.refit_tags RUN/model.safetensors CORPUS TARGETS OUT.safetensors [--fresh-seed 7]

In a short training the third stage's output comes to hold a large constant part, since nothing in the loss minds it:
the heads stand behind a norm over the batch. The next norm over channels then leaves little of the signal. Here the
constant part is taken out of the last bias before it; the last stage is begun anew with `--fresh-seed`, a layer of
random features; and the head learns YAMNet's scores from the clips' mean features, which is a convex problem.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_audiomamba.encoders.hiermamba import HierMamba
from hear_audiomamba.io.audio import load_audio
from hear_audiomamba.models.families import build_modules
from hear_audiomamba.models.weights import own_metadata, read_safetensors, save_weights

CENTRED_ON, BATCH, STEPS, RATE = 96, 32, 300, 0.02
DECAYS = (3e-4, 1e-3, 3e-3)
LAST = ("backbone.stages.3.", "backbone.downsamples.2.", "norm.")


def main() -> None:
    """Write the refitted model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("targets", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", default="yamnet_tags", help="whose scores the head learns [%(default)s]")
    parser.add_argument("--crops", type=int, default=6000, help="to learn from [%(default)s]")
    parser.add_argument("--fresh-seed", type=int, help="begin the last stage anew with this seed")
    args = parser.parse_args()
    from pyarrow import parquet

    state, metadata = read_safetensors(args.model)
    config, _ = own_metadata(metadata)
    torch.manual_seed(args.fresh_seed or 0)
    frontend, encoder = build_modules(config)
    if args.fresh_seed is not None:
        state |= {key: value for key, value in encoder.state_dict().items() if key.startswith(LAST)}
    encoder.load_state_dict(state)
    encoder.eval()

    crops = parquet.read_table(args.targets / "crops.parquet").to_pylist()
    scores = np.load(args.targets / f"{args.teacher}.npy", mmap_mode="r")
    with (args.corpus / "manifest.csv").open(newline="", encoding="utf-8") as file:
        valid = {row["path"] for row in csv.DictReader(file) if row["split"] == "valid"}
    order = np.random.default_rng(9).permutation(len(crops))
    learned = [i for i in order if crops[i]["path"] not in valid][: args.crops]
    held = [i for i in order if crops[i]["path"] in valid]

    def spectrograms(indices) -> Tensor:
        made = []
        for i in indices:
            crop = crops[i]
            audio = load_audio(
                args.corpus / crop["path"], frontend.sample_rate, start=crop["start_seconds"],
                duration=crop["seconds"],
            )  # fmt: skip
            frames = frontend(torch.from_numpy(audio)[None])[:, : encoder.tag_frames]
            missing = encoder.tag_frames - frames.shape[1]
            made.append(F.pad(frames, (0, 0, 0, missing), value=frontend.pad_value))
        return torch.cat(made)

    with torch.no_grad():
        centre(encoder, spectrograms(learned[:CENTRED_ON]))
        parts = [learned[i : i + BATCH] for i in range(0, len(learned), BATCH)]
        features = torch.cat([encoder.tag_features(spectrograms(part)) for part in parts])
        parts = [held[i : i + BATCH] for i in range(0, len(held), BATCH)]
        unseen = torch.cat([encoder.tag_features(spectrograms(part)) for part in parts])
    wanted = [torch.from_numpy(scores[np.array(part)].astype(np.float32)) for part in (learned, held)]
    weight, bias = fit(features, wanted[0], unseen, wanted[1])
    state = encoder.state_dict() | {"head.linear.weight": weight, "head.linear.bias": bias}
    save_weights(args.out, state, config)


def centre(encoder: HierMamba, features: Tensor) -> None:
    """Take the mean of the third stage's output, over `features` `(N, T, n_mels)`, out of its last bias."""
    maps = encoder.stage_maps(features)
    encoder.backbone.stages[2][-1].mlp.fc2.bias -= maps[2].mean(dim=(0, 1, 2))


def fit(features: Tensor, scores: Tensor, unseen: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight `(classes, D)` and bias `(classes,)` of the logistic regression that is best on unseen clips.

    Args:
        features: `(N, D)` of the clips learned from.
        scores: `(N, classes)` within 0 to 1.
        unseen, wanted: features and scores of clips that choose the penalty.
    """
    mean, deviation = features.mean(0), features.std(0) + 1e-4
    x, other = ((values - mean) / deviation for values in (features, unseen))
    prior = scores.mean(0).clamp(1e-4, 1 - 1e-4).logit()
    best: tuple[float, Tensor, Tensor] | None = None
    for decay in DECAYS:
        weight = torch.zeros(x.shape[1], scores.shape[1], requires_grad=True)
        bias = prior.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([weight, bias], lr=RATE)
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS) + 1e-4
            optimizer.zero_grad()
            error = F.binary_cross_entropy_with_logits(x @ weight + bias, scores, reduction="sum") / len(x)
            (error + decay * weight.square().sum()).backward()
            optimizer.step()
        with torch.no_grad():
            loss = F.binary_cross_entropy_with_logits(other @ weight + bias, wanted).item()
        print(
            f"penalty {decay:g}: {error.item() / scores.shape[1]:.5f} on those learned from, {loss:.5f} on others"
        )
        if best is None or loss < best[0]:
            best = loss, weight.detach(), bias.detach()
    assert best is not None
    weight = best[1] / deviation[:, None]
    return weight.T.contiguous(), best[2] - mean @ weight


if __name__ == "__main__":
    main()

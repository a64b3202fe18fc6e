"""Draw what weights do: a masked spectrogram, its reconstruction, and a map of one task's embeddings.

python recipes/weights/picture.py WEIGHTS TASK_FOLDER OUT.png [--audio FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
import torch
from sklearn.manifold import TSNE

from hear_audiomamba import load_model
from hear_audiomamba.io.audio import load_audio
from hear_audiomamba.models.bundled import bundled_path

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FRAMES = 200


def masked_and_rebuilt(model, path: Path, seed: int = 0) -> list[np.ndarray]:
    """Return two seconds as log-mel, with half of the patches hidden, and with these filled in; each (80, 200)."""
    encoder = model.encoder
    audio = torch.as_tensor(load_audio(path, model.sample_rate))[None]
    features = model.features(audio)[:, :FRAMES]
    n_patches = features.shape[1] // encoder.config.patch_size[0] * encoder.n_freq
    mask = torch.zeros(1, n_patches, dtype=torch.bool)
    mask[0, torch.randperm(n_patches, generator=torch.Generator().manual_seed(seed))[: n_patches // 2]] = True
    with torch.inference_mode():
        predicted, target = encoder.reconstruct(features, mask, keep_positions=True)
    lowest = target.min()
    hidden = torch.where(mask[..., None], lowest, target)
    rebuilt = torch.where(mask[..., None], predicted, target)
    return [_image(patches[0], encoder) for patches in (target, hidden, rebuilt)]


def task_embeddings(model, folder: Path, most: int = 1200) -> tuple[np.ndarray, list[str]]:
    """Return scene embeddings `(n, K)` of a task's clips, and the first label of each."""
    rows, labels = [], []
    for split in sorted(folder.glob("fold*.json")):
        for name, found in json.loads(split.read_text()).items():
            audio = torch.as_tensor(load_audio(folder / "16000" / split.stem / name, model.sample_rate))
            with torch.inference_mode():
                rows.append(model.scene(audio[None])[0].numpy())
            labels.append(found[0])
            if len(rows) == most:
                return np.stack(rows), labels
    return np.stack(rows), labels


def _image(patches: torch.Tensor, encoder) -> np.ndarray:
    frames, bins = encoder.config.patch_size
    grid = patches.reshape(-1, encoder.n_freq, frames, bins)
    return grid.permute(0, 2, 1, 3).reshape(-1, encoder.n_freq * bins).T.numpy()


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="a path, or variant.tag of bundled weights")
    parser.add_argument("task", type=Path, help="folder of one HEAR-format k-fold task")
    parser.add_argument("out", type=Path)
    parser.add_argument("--audio", type=Path, help="recording for the spectrogram; by default an example")
    args = parser.parse_args()
    known = not Path(args.weights).exists()
    model = load_model(variant=args.weights) if known else load_model(args.weights)
    audio = args.audio or bundled_path("examples") / "audio" / "speech_english.wav"
    spectra = masked_and_rebuilt(model, audio)
    rows, labels = task_embeddings(model, args.task)
    spread = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    flat = TSNE(2, init="pca", perplexity=30, random_state=0).fit_transform(spread)

    figure = plt.figure(figsize=(11, 5.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    for axes, image, title in zip(
        left.subplots(3, 1), spectra, ("input", "half of the patches hidden", "hidden patches rebuilt")
    ):
        axes.imshow(
            image, origin="lower", aspect="auto", cmap="magma", vmin=spectra[0].min(), vmax=spectra[0].max()
        )
        axes.set(title=title, xticks=(0, 100, 200), xticklabels=("0", "1", "2 s"), yticks=(), ylabel="mel")
    axes = right.subplots()
    names = sorted(set(labels), key=lambda name: (len(name), name))
    for place, name in enumerate(names):
        mine = np.array([label == name for label in labels])
        axes.scatter(*flat[mine].T, s=7, color=plt.get_cmap("tab20")(place % 20), label=name)
    axes.set(title=f"{args.task.name.rsplit('-', 1)[0]}: scene embeddings, t-SNE", xticks=(), yticks=())
    axes.legend(
        fontsize=6, ncols=2, markerscale=1.5, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False
    )
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()

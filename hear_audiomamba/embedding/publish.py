"""A model as a folder that anyone can load, and as a repository on the Hugging Face hub."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, InputError
from ..io.files import make_folder, write_json, write_text

if TYPE_CHECKING:
    from .embedder import AudioEmbedder

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_MOST_CLASSES = 50


def save_pretrained(
    model: AudioEmbedder,
    folder: str | Path,
    *,
    licence: str | None = None,
    sources: str | None = None,
    scores: str | Path | Mapping[str, Any] | None = None,
) -> Path:
    """Write a folder with weights, configuration and card; see `AudioEmbedder.save_pretrained`."""
    folder = Path(folder)
    make_folder(folder)
    notes = {key: value for key, value in (("licence", licence), ("source", sources)) if value}
    model.save(folder / WEIGHTS, notes=notes)
    write_json(folder / CONFIG, {"model_type": "hear_audiomamba", "model": model.config.to_dict()})
    write_text(folder / CARD, card(model, licence=licence, sources=sources, scores=_read(scores)))
    return folder


def push_to_hub(
    model: AudioEmbedder,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    commit_message: str = "Upload a model of hear_audiomamba",
    **about: Any,
) -> str:
    """Upload a model to the hub; see `AudioEmbedder.push_to_hub`."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = save_pretrained(model, scratch, **about)
            done = api.upload_folder(repo_id=repo_id, folder_path=str(folder), commit_message=commit_message)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{repo_id}: cannot upload: {lines[0]}") from None
    return str(done.commit_url)


def card(
    model: AudioEmbedder,
    *,
    licence: str | None = None,
    sources: str | None = None,
    scores: Mapping[str, Any] | None = None,
) -> str:
    """Return the text of a model's card in Markdown.

    Args:
        model: what it is about.
        licence: of the weights, as the hub names it, for instance "apache-2.0".
        sources: what the weights were trained on.
        scores: what `hear-audiomamba evaluate` wrote: one model's results.
    """
    header = ["---", "library_name: hear_audiomamba", "pipeline_tag: feature-extraction"]
    header += [f"license: {licence.lower()}"] if licence else []
    header += ["tags: [audio, embeddings, mamba]", "---", ""]
    size, window = model.scene_embedding_size, model.config.window_seconds
    lines = [
        f"# {model.config.variant}",
        "",
        f"Audio embeddings of {size} numbers, from audio at {model.sample_rate} Hz in windows of {window:g} s.",
        "",
        "```python",
        "from hear_audiomamba import embed_file, load_model",
        "",
        'model = load_model("OWNER/NAME")  # this repository',
        'embed_file("recording.wav", model)',
        "```",
        "",
        f"- Trained on: {sources or 'not said'}.",
        f"- Licence of the weights: {licence or 'not said'}.",
    ]
    if labels := model.config.labels:
        more = f" and {len(labels) - _MOST_CLASSES} more" if len(labels) > _MOST_CLASSES else ""
        lines.append(f"- Classes, for `hear-audiomamba tag`: {', '.join(labels[:_MOST_CLASSES])}{more}.")
    if scores:
        lines += ["", "## HEAR scores", "", "| task | metric | score | runs |", "|---|---|---|---|"]
        lines += [
            f"| {task} | {found['score']} | {100 * _mean(found['runs']):.1f} | {len(found['runs'])} |"
            for task, found in sorted(scores["tasks"].items())
            if found["runs"]
        ]
    return "\n".join([*header, *lines]) + "\n"


def _mean(runs: Sequence[Mapping[str, Any]]) -> float:
    return sum(float(run["value"]) for run in runs) / len(runs)


def _read(scores: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if scores is None or isinstance(scores, Mapping):
        return scores
    try:
        found = json.loads(Path(scores).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"scores: {scores} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("tasks"), dict):
        raise InputError(f"scores: {scores} is not a results file of hear-audiomamba evaluate")
    return found

"""Models for MTEB and its audio part MAEB.

    import mteb
    from hear_audiomamba.adapters.mteb import model_meta

    model = model_meta("ssam_tiny").load_model()
    mteb.evaluate(model, tasks)

To install: `pip install 'hear_audiomamba[mteb]'`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from numpy.typing import NDArray

from .. import __version__
from ..hear import load_model
from ..models.manifest import manifest
from ..models.registry import find_variant, model_info
from .clips import embed_clips, samples_of


class AudioMambaEncoder(AbsEncoder):  # type: ignore[misc]  # the library has no types here
    """Embeds the audio of MTEB's tasks; a clip's embedding does not depend on the clips beside it.

    Args:
        model_name: what `load_model` takes: a variant, or a variant with a weights tag.
        revision: of this package; MTEB keeps results apart by it.
        device: where to compute; by default a GPU if there is one.
        options: keywords for `load_model`.
    """

    def __init__(
        self, model_name: str, revision: str | None = None, device: str | None = None, **options: Any
    ) -> None:
        self.mteb_model_meta = model_meta(model_name.rpartition("/")[2])
        self.model = load_model(variant=model_name.rpartition("/")[2], device=device, **options)

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> NDArray[np.float32]:
        """Return the scene embeddings `(N, K)` of a DataLoader's clips."""
        rate = self.model.sample_rate
        inputs.collate_fn = _as_they_are
        found = []
        with torch.no_grad():
            for batch in inputs:
                clips = [samples_of(clip, rate) for clip in batch["audio"]]
                found.append(embed_clips(self.model, clips).cpu().numpy())
        return np.concatenate(found)


def _as_they_are(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Put rows into one batch; `samples_of` resamples, where MTEB's own collator would need torchaudio."""
    return {key: [row[key] for row in rows] for key in rows[0]}


def model_meta(name: str = "ssam_tiny") -> ModelMeta:
    """Return MTEB's description of a model.

    Args:
        name: a variant, or a variant with a weights tag.

    Raises:
        VariantError: the name is not known.
    """
    variant, _, tag = name.partition(".")
    variant = find_variant(variant).name
    info = model_info(variant)
    listing = manifest()
    entry = listing["weights"].get(f"{variant}.{tag or listing['defaults'].get(variant)}", {})
    return ModelMeta(
        loader=AudioMambaEncoder,
        name=f"hear_audiomamba/{variant}{f'.{tag}' if tag else ''}",
        revision=(entry.get("sha256") or __version__)[:40],
        release_date=None,
        languages=None,
        n_parameters=info["parameters"],
        n_embedding_parameters=0,
        memory_usage_mb=round(info["parameters"] * 4 / 2**20),
        max_tokens=None,
        embed_dim=info["scene_embedding_size"],
        license=None,
        open_weights=bool(entry),
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
        modalities=["audio"],
    )

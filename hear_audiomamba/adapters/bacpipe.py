"""Models for bacpipe, which compares embeddings of bioacoustic models.

    import bacpipe
    from hear_audiomamba.adapters.bacpipe import AudioMambaModel

    bacpipe.play(models=["hear_audiomamba"], CustomModels=[AudioMambaModel], audio_dir="recordings")

docs/libraries.md says how to install bacpipe.
"""

from __future__ import annotations

from typing import Any

import torch
from bacpipe.model_pipelines.model_utils import ModelBaseClass
from torch import Tensor

from ..hear import load_model

SAMPLE_RATE = 16000
SEGMENT_SECONDS = 2.0


class AudioMambaModel(ModelBaseClass):  # type: ignore[misc]  # the library has no types here
    """A model by bacpipe's rules: segments of two seconds to scene embeddings. Subclass it for another variant.

    Attributes:
        VARIANT: what `load_model` takes.
        SAMPLE_RATE: of the audio, Hz; must be the model's.
        SEGMENT_LENGTH: of a segment, in samples.

    Args:
        settings: of bacpipe: device, batch size and so on.
    """

    VARIANT = "ssam_tiny"
    SAMPLE_RATE = SAMPLE_RATE
    SEGMENT_LENGTH = round(SEGMENT_SECONDS * SAMPLE_RATE)

    def __init__(self, **settings: Any) -> None:
        settings = {key: value for key, value in settings.items() if key not in ("sr", "segment_length")}
        super().__init__(sr=self.SAMPLE_RATE, segment_length=self.SEGMENT_LENGTH, **settings)
        self.model = load_model(self.VARIANT, device=self.device)

    def preprocess(self, audio: Tensor) -> Tensor:
        """Return the segments `(n, samples)` as they are: the model computes its own spectrograms."""
        return audio

    @torch.no_grad()
    def __call__(self, segments: Tensor) -> Tensor:
        """Return the scene embeddings `(n, K)` of segments `(n, samples)`."""
        return self.model.scene(segments.to(self.device)).cpu()

"""Models as classes of transformers: importing this module registers them with AutoModel and its kin.

import hear_audiomamba.adapters.transformers
from transformers import AutoFeatureExtractor, AutoModel

model = AutoModel.from_pretrained("folder")
inputs = AutoFeatureExtractor.from_pretrained("folder")(samples, sampling_rate=16000, return_tensors="pt")
model(**inputs).pooler_output

pipeline("audio-feature-extraction", model="folder")("recording.wav", pool=True)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    BatchFeature,
    Pipeline,
    PreTrainedConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.pipelines import PIPELINE_REGISTRY

from ..embedding.embedder import AudioEmbedder
from ..embedding.inputs import check_sample_rate
from ..errors import InputError
from ..models.families import build_modules, config_from_dict
from ..models.registry import find_variant
from .clips import samples_of

MODEL_TYPE = "hear_audiomamba"
DEFAULT = "ssam_tiny_200_16x4"
TASK = "audio-feature-extraction"


class AudioMambaConfig(PreTrainedConfig):  # type: ignore[misc]  # the library has no types here
    """The configuration of a model, in the form of transformers.

    Args:
        model: the model's own configuration as a plain dictionary; by default that of SSAM-tiny.
    """

    model_type = MODEL_TYPE

    def __init__(self, model: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.model = find_variant(DEFAULT).config.to_dict() if model is None else model
        super().__init__(**kwargs)


class AudioMambaModel(PreTrainedModel):  # type: ignore[misc]
    """An audio Mamba encoder: waveforms to timestamp and scene embeddings.

    Args:
        config: which model.
    """

    config_class = AudioMambaConfig
    main_input_name = "input_values"
    input_modalities = ("audio",)

    def __init__(self, config: AudioMambaConfig) -> None:
        super().__init__(config)
        own = config_from_dict(config.model)
        # On the CPU and not on the device "meta": the front ends compute their constants here.
        with torch.device("cpu"):
            self.embedder = AudioEmbedder(own, *build_modules(own))
        self.post_init()

    @classmethod
    def of(cls, model: AudioEmbedder) -> AudioMambaModel:
        """Return a model of `load_model` in the form of transformers, with its weights."""
        made = cls(AudioMambaConfig(model.config.to_dict()))
        made.embedder.encoder.load_state_dict(model.encoder.state_dict())
        made.to(model.device)
        return made

    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """Embed clips.

        Args:
            input_values: `(B, S)` float in [-1, 1] at the model's sample rate.
            attention_mask: `(B, S)`, 1 where a clip is and 0 behind its end. Each clip is embedded by itself.

        Returns:
            `last_hidden_state` `(B, n, K)`, the timestamp embeddings, zero behind a clip's end, and `pooler_output`
            `(B, K)`, the scene embeddings.
        """
        clips = _clips(input_values, attention_mask)
        rows = [self.embedder.embed_timestamps(clip[None])[0][0] for clip in clips]
        return BaseModelOutputWithPooling(
            last_hidden_state=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
            pooler_output=torch.cat([self.embedder.embed(clip[None]) for clip in clips]),
        )

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load weights and settings from a folder or the hub; arguments as in transformers."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._restore_constants()
        return loaded

    @torch.no_grad()
    def _restore_constants(self) -> None:
        """Compute once more what no file holds, such as windows and filter banks: the library empties it."""
        with torch.device("cpu"):
            parts = dict(zip(("features", "encoder"), build_modules(self.embedder.config)))
        fresh = torch.nn.ModuleDict(parts)
        stored = fresh.state_dict()
        for name, buffer in fresh.named_buffers():
            if name not in stored:
                self.embedder.get_buffer(name).copy_(buffer)

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave weights as they are: modules initialise themselves."""


class AudioMambaFeatureExtractor(SequenceFeatureExtractor):  # type: ignore[misc]
    """Checks the sample rate and pads clips of several lengths.

    Args:
        sampling_rate: Hz that the model takes.
    """

    model_input_names = ("input_values", "attention_mask")

    def __init__(
        self, sampling_rate: int = 16000, feature_size: int = 1, padding_value: float = 0.0, **kwargs: Any
    ):
        super().__init__(
            feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **kwargs
        )

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Return "input_values" and "attention_mask" of one clip or a list of clips.

        Args:
            raw_speech: `(S,)` in [-1, 1], or a list of such.
            sampling_rate: of the clips, Hz; checked.
            padding: as in transformers.
            return_tensors: "pt" or "np".

        Raises:
            InputError: another sample rate than the model's, or no mono clips.
        """
        check_sample_rate(sampling_rate, self.sampling_rate)
        many = isinstance(raw_speech, (list, tuple)) and not np.isscalar(raw_speech[0])
        clips = [np.asarray(clip, np.float32) for clip in (raw_speech if many else [raw_speech])]
        if isinstance(raw_speech, (np.ndarray, Tensor)) and raw_speech.ndim == 2:
            clips = [np.asarray(clip, np.float32) for clip in raw_speech]
        for clip in clips:
            if clip.ndim != 1:
                raise InputError(f"raw_speech: a clip has the shape {clip.shape}, expected (n_samples,)")
        return self.pad(
            BatchFeature({"input_values": clips}), padding=padding, return_attention_mask=True,
            return_tensors=return_tensors, **kwargs,
        )  # fmt: skip


class AudioFeatureExtractionPipeline(Pipeline):  # type: ignore[misc]
    """Recordings to embeddings, as `pipeline("audio-feature-extraction", model=…)`.

    The library's own "feature-extraction" takes text; `pipeline("feature-extraction", …, pipeline_class=…)` with
    this class takes audio.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = True
    _load_tokenizer = False

    def _sanitize_parameters(
        self, pool: bool = False, return_tensors: bool = False, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, {}, {"pool": pool, "return_tensors": return_tensors}

    def preprocess(self, input_: Any, **kwargs: Any) -> BatchFeature:
        """Read and resample a recording: a path, samples at the model's rate, or "array" and "sampling_rate"."""
        rate = self.feature_extractor.sampling_rate
        return self.feature_extractor(samples_of(input_, rate), sampling_rate=rate, return_tensors="pt")

    def _forward(self, input_tensors: Any, **kwargs: Any) -> BaseModelOutputWithPooling:
        return self.model(**input_tensors)

    def postprocess(
        self, model_outputs: BaseModelOutputWithPooling, pool: bool = False, return_tensors: bool = False
    ) -> Tensor | list[Any]:
        """Return the timestamp embeddings `(1, n, K)`, or with `pool` the scene embedding `(1, K)`."""
        found: Tensor = model_outputs.pooler_output if pool else model_outputs.last_hidden_state
        return found if return_tensors else found.tolist()


def _clips(input_values: Tensor, attention_mask: Tensor | None) -> list[Tensor]:
    if attention_mask is None:
        return list(input_values)
    lengths = attention_mask.sum(dim=1).tolist()
    return [clip[: int(length)] for clip, length in zip(input_values, lengths, strict=True)]


AutoConfig.register(MODEL_TYPE, AudioMambaConfig, exist_ok=True)
AutoModel.register(AudioMambaConfig, AudioMambaModel, exist_ok=True)
AutoFeatureExtractor.register(AudioMambaConfig, AudioMambaFeatureExtractor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(TASK, AudioFeatureExtractionPipeline, pt_model=AutoModel, type="audio")

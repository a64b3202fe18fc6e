"""Models as classes of transformers: importing this module registers them with AutoModel and its kin.

    import hear_audiomamba.adapters.transformers
    from transformers import AutoFeatureExtractor, AutoModel, pipeline

    model = AutoModel.from_pretrained("folder")
    inputs = AutoFeatureExtractor.from_pretrained("folder")(samples, sampling_rate=16000, return_tensors="pt")
    model(**inputs).pooler_output

    pipeline("audio-feature-extraction", model="folder")("recording.wav", pool=True)

To install: `pip install 'hear_audiomamba[transformers]'`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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

    Attributes:
        hidden_size: K, the width of an embedding; set by the model.
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
        config.hidden_size = self.embedder.timestamp_embedding_size
        self.post_init()

    @classmethod
    def of(cls, model: AudioEmbedder) -> AudioMambaModel:
        """Return a model of `load_model` in the form of transformers, with its weights."""
        made = cls(AudioMambaConfig(model.config.to_dict()))
        made.embedder.encoder.load_state_dict(model.encoder.state_dict())
        made.to(model.device)
        return made

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        *,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling | tuple[Tensor, ...]:
        """Embed clips.

        Args:
            input_values: `(B, S)` float in [-1, 1] at the model's sample rate.
            attention_mask: `(B, S)`, 1 where a clip is and 0 behind its end. Each clip is embedded by itself.
            output_hidden_states: must not be set; `model.embedder.hidden_states` has each block's tokens.
            return_dict: False for a tuple instead of names.
            kwargs: what the library's own models take besides; not used.

        Returns:
            `last_hidden_state` `(B, n, K)`, the timestamp embeddings, zero behind a clip's end, and `pooler_output`
            `(B, K)`, the scene embeddings.

        Raises:
            InputError: hidden states are asked for, or clips that `check_audio` refuses.
        """
        if output_hidden_states:
            raise InputError(
                "output_hidden_states: use model.embedder.hidden_states(clips) for each block's tokens"
            )
        clips = _without_padding(input_values, attention_mask)
        rows = [self.embedder.embed_timestamps(clip[None])[0][0] for clip in clips]
        found = BaseModelOutputWithPooling(
            last_hidden_state=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
            pooler_output=torch.cat([self.embedder.embed(clip[None]) for clip in clips]),
        )
        return found.to_tuple() if return_dict is False else found

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
            InputError: another sample rate than the model's, whole numbers instead of samples in [-1, 1], no
                clips or empty ones, or several channels.
        """
        check_sample_rate(sampling_rate, self.sampling_rate)
        return self.pad(
            BatchFeature({"input_values": _mono_clips(raw_speech)}), padding=padding, return_attention_mask=True,
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

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write the model and the feature extractor; the library would also copy this module's code beside them."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.feature_extractor.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(self, **given: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown := set(given) - {"pool", "return_tensors"}:
            raise InputError(
                f"{', '.join(sorted(unknown))}: not known; this pipeline takes pool, return_tensors"
            )
        return {}, {}, given

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


def _mono_clips(raw_speech: Any) -> list[NDArray[np.float32]]:
    """Return one clip, a list of clips or a matrix of them as a list of float32 arrays `(n,)`."""
    several = isinstance(raw_speech, (np.ndarray, Tensor)) and raw_speech.ndim == 2
    if isinstance(raw_speech, (list, tuple)):
        several = not (raw_speech and np.isscalar(raw_speech[0]))
    given = list(raw_speech) if several else [raw_speech]
    if not given:
        raise InputError("raw_speech: is empty, expected one clip or more")
    clips = []
    for clip in map(np.asarray, given):
        if clip.ndim != 1 or not len(clip):
            raise InputError(f"raw_speech: a clip has the shape {clip.shape}, expected (n_samples,)")
        if not np.issubdtype(clip.dtype, np.floating):
            raise InputError(f"raw_speech: a clip is {clip.dtype}, expected floating point in [-1, 1]")
        clips.append(clip.astype(np.float32))
    return clips


def _without_padding(input_values: Tensor, attention_mask: Tensor | None) -> list[Tensor]:
    """Return each clip at its own length."""
    if attention_mask is None:
        return list(input_values)
    lengths = attention_mask.sum(dim=1).tolist()
    return [clip[: int(length)] for clip, length in zip(input_values, lengths, strict=True)]


AutoConfig.register(MODEL_TYPE, AudioMambaConfig, exist_ok=True)
AutoModel.register(AudioMambaConfig, AudioMambaModel, exist_ok=True)
AutoFeatureExtractor.register(AudioMambaConfig, AudioMambaFeatureExtractor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(TASK, AudioFeatureExtractionPipeline, pt_model=AutoModel, type="audio")

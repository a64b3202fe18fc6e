"""All settings of a training run, and what they mean. `settings.read_config` reads them from YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..config import Config


@dataclass(frozen=True)
class DataConfig(Config):
    """Where the audio is and how clips are cut from it.

    For the recipe "finetune", `path` is the labels: a folder for each class, a table, or a HEAR task (see
    docs/finetuning.md).

    `path` is a folder of audio, a manifest (`.csv`, `.json`, `.jsonl`), webdataset tars (a folder, a
    glob, a brace pattern `shards-{000..031}.tar`, or URLs of them), or a folder of log-mels (`.npy`,
    `(T, F)`, not normalised). A folder that holds a `manifest.csv` is read by it. `split` and
    `valid_split` choose rows of a manifest by their `split` column, or sub-folders of that name.

    An epoch has one crop of each clip (`epoch: clips`, as published), or more crops of longer clips
    (`epoch: seconds`). `weights` draws clips by the manifest's `kind` instead: `{speech: 1, music: 1}`
    takes equally many crops of both, whatever their amounts. `balance: classes` draws clips with rare labels
    more often. Clips shorter than a crop are repeated (`tile`) or followed by silence
    after normalisation (`pad`). `workers` processes decode; `worker_start` says how they are started (auto:
    `fork` on Linux without a GPU, else `spawn`).
    """

    path: str = ""
    format: Literal["auto", "audio", "webdataset", "logmel"] = "auto"
    split: str | None = "train"
    valid_split: str | None = "valid"
    crop_seconds: float = 2.0
    short_clips: Literal["tile", "pad"] = "tile"
    epoch: Literal["clips", "seconds"] = "clips"
    weights: dict[str, float] | None = None
    balance: Literal["none", "classes"] = "none"
    labels: str | None = None
    workers: int = 2
    worker_start: Literal["auto", "fork", "spawn", "forkserver"] = "auto"
    cache: str | None = None


@dataclass(frozen=True)
class MaskConfig(Config):
    """Which patches are masked.

    `kind: random` masks single patches. `kind: clusters` masks squares; their side is drawn from `cluster`
    (lowest, highest) for each clip. The number of masked patches is `count`, or else the share `ratio` of all.
    """

    kind: Literal["random", "clusters"] = "random"
    ratio: float = 0.5
    count: int | None = None
    cluster: tuple[int, int] = (3, 5)


@dataclass(frozen=True)
class ObjectiveConfig(Config):
    """What is minimised; which keys count depends on the recipe.

    Masked reconstruction (`ssam`): `loss_on` all patches (as published) or the masked ones;
    `keep_positions` leaves masked tokens their positions (the published code does not);
    `normalize_patches` makes every target patch zero-mean with unit variance. `ssamba`:
    `generative_weight` is the factor of the generative loss. `tagging`: `label_smoothing`.
    """

    loss_on: Literal["all", "masked"] = "all"
    keep_positions: bool = False
    normalize_patches: bool = False
    generative_weight: float = 10.0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class DistillConfig(Config):
    """Learning from teachers' embeddings of fixed crops (see docs/pretraining.md for the folder).

    `targets` is the folder, None for none. `teachers` gives a weight to each teacher used; None takes
    all with weight 1. A head for each teacher reads the scene vector: `linear`, or `mlp` with `hidden`
    units. The vector is first normalised: by layer norm (`head_norm: layer`), or each dimension over the batch
    (`batch`). The latter lets the head learn from small differences early.
    Targets are standardised with the folder's mean and std. `weight` is the factor of the sum of the
    teachers' losses. `reconstruction_weight` is the factor of the recipe's own loss. It is computed on the share
    `masked` of the clips; the other clips are not masked. With the recipe "tagging" and `soft_labels`, a
    teacher's row is a logit for each class, softened by `temperature`, and `weight` between 0 and 1 is
    the share of the loss against them. With the recipe "distill", `tags` names a teacher with rows of
    class scores; the model's own tagging head predicts them, instead of a separate head.
    """

    targets: str | None = None
    teachers: dict[str, float] | None = None
    head: Literal["linear", "mlp"] = "linear"
    head_norm: Literal["layer", "batch"] = "layer"
    hidden: int = 512
    loss: Literal["mse", "l1", "cosine", "l1_cosine"] = "mse"
    weight: float = 1.0
    reconstruction_weight: float = 1.0
    masked: float = 0.5
    soft_labels: bool = False
    temperature: float = 1.0
    jitter_seconds: float = 0.0
    tags: str | None = None


@dataclass(frozen=True)
class AugmentConfig(Config):
    """Augmentations. `gain`, `noise`, `mix`, `speed`, `reverb` and `mixup` are probabilities; 0 is off.

    `gain_db` is the largest change up or down; `noise_snr_db`, `mix_snr_db` the range of the ratio of
    the clip to coloured noise or to another crop; `speed` the range of the factor (pitch and tempo
    together); `reverb_seconds` the range of the time in which the echo falls by 60 dB. `mixup` is the
    chance that another clip and its labels are mixed in, with a share drawn from a Beta distribution
    with both parameters `mixup_alpha`. `spec_time` and `spec_freq` are the largest widths of SpecAugment's masks,
    in frames and in mel bins. `spec_filter` raises and lowers the mel bins by a random smooth line, at most by this
    many standard deviations of the clip's spectrogram. `spec_noise` adds uniform noise to the normalised
    spectrogram, at a level drawn below this value. `spec_shift` rotates it in time by fewer frames than this. Both
    are as SSAST's authors do.
    """

    gain: float = 0.0
    gain_db: float = 12.0
    noise: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 40.0)
    mix: float = 0.0
    mix_snr_db: tuple[float, float] = (0.0, 15.0)
    speed: float = 0.0
    speed_range: tuple[float, float] = (0.8, 1.25)
    reverb: float = 0.0
    reverb_seconds: tuple[float, float] = (0.1, 0.8)
    mixup: float = 0.0
    mixup_alpha: float = 10.0
    spec_time: int = 0
    spec_freq: int = 0
    spec_filter: float = 0.0
    spec_noise: float = 0.0
    spec_shift: int = 0


@dataclass(frozen=True)
class OptimConfig(Config):
    """AdamW and its schedule.

    `lr` is the rate for `lr_batch` clips in a step, and scales with the batch. With `lr_batch: null` it does not
    scale. A step has `batch` clips; every process computes `micro_batch` of them at once (None: as many as fit
    into memory; see `run/memory.py`).
    The rate rises linearly for `warmup_epochs` (or `warmup_steps`), then falls: `cosine` to `min_lr`, or
    stays `constant` until a linear fall over the last `cooldown` share of the steps, or is multiplied by
    `decay_factor` after `decay_start` epochs and every `decay_every` epochs from there (`step`).

    Fine-tuning: layers (patch embedding, then each block) learn at `layer_decay` times the rate of the layer
    above them, the head at `head_rate` times that of the last layer; the first `frozen_layers` do not learn.
    `ema` averages the weights over all steps, `average_epochs` those at the ends of some epochs (first, last).
    """

    lr: float = 1.5e-4
    lr_batch: int | None = 256
    batch: int = 256
    micro_batch: int | None = None
    epochs: float = 100.0
    steps: int | None = None
    warmup_epochs: float = 10.0
    warmup_steps: int | None = None
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    cooldown: float = 0.0
    decay_start: float = 10.0
    decay_every: float = 5.0
    decay_factor: float = 0.5
    min_lr: float = 0.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip_norm: float | None = None
    ema: float | None = None
    average_epochs: tuple[int, int] | None = None
    layer_decay: float = 1.0
    head_rate: float = 1.0
    frozen_layers: int = 0


@dataclass(frozen=True)
class RunConfig(Config):
    """The folder of the run and what is kept there. Intervals are in steps, 0 for never.

    `tensorboard`: None writes its files if it is installed. `wandb` is the name of a project. `max_seconds`
    ends the run early, with a checkpoint to continue from. `patience` ends it after this many validations
    without improvement, 0 for never.
    """

    out: str = ""
    log_every: int = 10
    checkpoint_every: int = 1000
    keep: int = 2
    valid_every: int = 0
    valid_clips: int = 512
    patience: int = 0
    picture_every: int = 0
    progress: bool = True
    tensorboard: bool | None = None
    wandb: str | None = None
    max_seconds: float | None = None
    min_free_gb: float = 1.0


@dataclass(frozen=True)
class ProbeConfig(Config):
    """A small classifier on HEAR-format tasks during the run, on frozen scene embeddings.

    `tasks_dir` holds `<task>-<version>/` folders; `tasks` names some of them (None: all scene tasks).
    `every` is in steps. `max_clips` limits the clips of a task, `folds` the test folds of a k-fold task.
    """

    tasks_dir: str | None = None
    tasks: tuple[str, ...] | None = None
    every: int = 0
    kind: Literal["linear", "knn"] = "linear"
    max_clips: int | None = None
    folds: int | None = 1
    at_start: bool = True


@dataclass(frozen=True)
class FinetuneConfig(Config):
    """Training the whole network on labels; for the recipe "finetune".

    `head`: "scene" is a linear layer on the standardised scene embedding, "model" the tagging head of the
    model's authors; "auto" takes the latter if the model has one. `loss`: "auto" takes cross-entropy
    for one label in each clip and binary cross-entropy for several. `kind` says which of the two the labels are;
    "auto" decides by the labels. `head_start` is for the scene head: "probe" starts it as a linear classifier
    fitted to the embeddings of the model before training, "zero" with the same score for all classes.
    Labels with folds: `fold` is the test fold, and the next one is for validation.
    Labels without splits: `valid_share` of each class is for validation, chosen by the seed.
    """

    head: Literal["auto", "scene", "model"] = "auto"
    loss: Literal["auto", "cross_entropy", "bce"] = "auto"
    kind: Literal["auto", "single", "multi"] = "auto"
    head_start: Literal["probe", "zero"] = "probe"
    fold: str | None = None
    valid_share: float = 0.2


@dataclass(frozen=True)
class PretrainConfig(Config):
    """A training run.

    `recipe`: "ssam" (masked reconstruction), "ssamba" (joint discriminative and generative masked
    patches), "tagging" (supervised, with labels), "distill" (teachers only) or "finetune" (a trained model on
    labels). `model` is a variant's
    name and `model_options` changes single settings of it. `init` is a weights file to start from, of the
    same depth or less, or another run's folder, which also gives its teachers' heads.
    """

    recipe: Literal["ssam", "ssamba", "tagging", "distill", "finetune"] = "ssam"
    model: str = "ssam_tiny_200_16x4"
    model_options: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    seed: int = 0
    device: str | None = None
    threads: int | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    activation_checkpointing: bool = False
    backend: str | None = None
    data: DataConfig = DataConfig()
    mask: MaskConfig = MaskConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    distill: DistillConfig = DistillConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    probe: ProbeConfig = ProbeConfig()
    finetune: FinetuneConfig = FinetuneConfig()

"""Training: the published pretraining recipes and fine-tuning, on one machine or many.

`hear-audiomamba pretrain CONFIG` and `finetune CONFIG|LABELS` on the command line, `read_config` and
`pretrain` from Python; see docs/pretraining.md and docs/finetuning.md.
"""

from .config import PretrainConfig
from .run.loop import Diverged, Outcome, pretrain
from .settings import read_config

__all__ = ["Diverged", "Outcome", "PretrainConfig", "pretrain", "read_config"]

"""Pretraining: the published recipes on one machine or many.

`hear-audiomamba pretrain CONFIG` on the command line, `read_config` and `pretrain` from Python; see
docs/pretraining.md.
"""

from .config import PretrainConfig, read_config
from .run.loop import Diverged, Outcome, pretrain

__all__ = ["Diverged", "Outcome", "PretrainConfig", "pretrain", "read_config"]

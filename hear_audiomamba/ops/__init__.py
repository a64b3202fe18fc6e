"""The operators a Mamba block is made of, channel-last, each with several backends behind one function."""

from .backends import BACKENDS, use_backend
from .causal_conv1d import causal_conv1d
from .linear import linear
from .selective_scan import selective_scan, selective_scan_2d

__all__ = ["BACKENDS", "causal_conv1d", "linear", "selective_scan", "selective_scan_2d", "use_backend"]

"""The short causal convolution before a scan, with its activation."""

from . import cpu as _cpu  # noqa: F401  registers the operators with torch, for exported programs
from .interface import causal_conv1d

__all__ = ["causal_conv1d"]

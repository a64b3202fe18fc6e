"""The selective scan: one front door per shape of data, several backends behind it."""

from . import cpu as _cpu  # noqa: F401  registers the operators with torch, for exported programs
from .interface import selective_scan, selective_scan_2d

__all__ = ["selective_scan", "selective_scan_2d"]

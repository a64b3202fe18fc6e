"""The selective scan: one front door per shape of data, several backends behind it."""

from .interface import selective_scan, selective_scan_2d

__all__ = ["selective_scan", "selective_scan_2d"]

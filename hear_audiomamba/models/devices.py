"""Where to compute: a device by name, or the best available."""

from __future__ import annotations

import torch

from ..errors import ConfigError, did_you_mean, shown

_KNOWN = ("cpu", "cuda", "mps", "xpu")
_ALIASES = {"gpu": "cuda", "metal": "mps"}


def find_device(device: str | torch.device | None = None) -> torch.device:
    """Return a device after trying it.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps" …; None takes a CUDA GPU, else Apple's (MPS), else the CPU.

    Raises:
        ConfigError: the name is not known, or this machine or this PyTorch has no such device.
    """
    if device is None:
        return torch.device(available_devices()[0])
    name = str(device) if isinstance(device, (str, torch.device)) else shown(device)
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError):
        hint = f"did you mean {_ALIASES[name]!r}?" if name in _ALIASES else did_you_mean(name, _KNOWN)
        raise ConfigError(f"device: {name!r} is not the name of a device; {hint}") from None
    try:
        torch.empty(0, device=found)
        usable = found.type != "meta"  # which holds shapes and no values
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, AttributeError):
        usable = False
    if not usable:
        at_hand = ", ".join(repr(kind) for kind in available_devices())
        raise ConfigError(f"device: {name!r} does not exist on this machine; use one of {at_hand}")
    return found


def available_devices() -> list[str]:
    """Return the kinds of devices of this machine, the fastest first; "cpu" is always there."""
    devices = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]

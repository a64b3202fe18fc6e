"""Deeper models from trained shallow ones."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from ...errors import CheckpointError

_BLOCK = re.compile(r"blocks\.(\d+)\.")


def deepen(state: Mapping[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """Return a state dict for a deeper encoder that computes what `state` does.

    The blocks that `state` lacks come behind its own, as the encoder has initialised them, except that
    their output projections are zero: they pass their input on until training puts them to use.

    Args:
        state: of an encoder of the same family and widths, with at most as many blocks.
        encoder: the deeper one.

    Raises:
        CheckpointError: a tensor is missing that is no block behind those of `state`, or `state` is deeper.
    """
    depth = blocks_of(state)
    own = encoder.state_dict()
    if depth > blocks_of(own):
        raise CheckpointError(f"weights of {depth} blocks do not fit into {blocks_of(own)}")
    grown = {}
    for key, value in own.items():
        found = _BLOCK.match(key)
        if key in state:
            grown[key] = state[key].float()
        elif found and int(found[1]) >= depth:
            grown[key] = value.new_zeros(value.shape) if key.endswith("out_proj.weight") else value
        else:
            raise CheckpointError(f"the weights have no {key}; are they of the same family and widths?")
    return grown


def blocks_of(state: Mapping[str, Tensor]) -> int:
    """Return how many blocks a state dict has, 0 for models that have none under that name."""
    return max((int(found[1]) + 1 for key in state if (found := _BLOCK.match(key))), default=0)

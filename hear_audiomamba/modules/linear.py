"""A linear layer that computes in its weight's precision."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import linear


class Linear(nn.Linear):
    """`torch.nn.Linear` on the faster CPU library, for inputs of any floating type.

    The input is cast to the weight's dtype: the norms before it give float32 in every precision.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `(…, out)` of `(…, in)`, in the weight's dtype."""
        return linear(x.to(self.weight.dtype), self.weight, self.bias)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them.

    Args:
        dim: width of the input and the output.
        hidden: width between the layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(…, dim)` of `(…, dim)`, in the weights' dtype."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y

"""A linear layer that computes in its weight's precision."""

from __future__ import annotations

from torch import Tensor, nn

from ..ops import linear


class Linear(nn.Linear):
    """`torch.nn.Linear` on the faster CPU library, for inputs of any floating type.

    The input is cast to the weight's dtype: the norms before it give float32 in every precision.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return `(…, out)` of `(…, in)`, in the weight's dtype."""
        return linear(x.to(self.weight.dtype), self.weight, self.bias)

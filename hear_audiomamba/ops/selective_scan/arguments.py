"""The arguments of one scan, as each backend gets them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Optional = Tensor | None


class Scan(NamedTuple):
    """One scan of a sequence, or of a map in four directions; `interface` says what the arguments mean.

    B and C are `(batch, L, G, N)`, of a map `(batch, H·W, 4, N)`. `height` and `width` are 0 unless it is a map,
    which has no z, no initial state and no `reverse`.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Optional = None
    z: Optional = None
    delta_bias: Optional = None
    initial_state: Optional = None
    softplus: bool = False
    reverse: bool = False
    height: int = 0
    width: int = 0

    @property
    def tensors(
        self,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Optional, Optional, Optional, Optional]:
        """The inputs that may have gradients, those left out as None."""
        return (
            self.u, self.delta, self.A, self.B, self.C, self.D, self.z, self.delta_bias, self.initial_state
        )  # fmt: skip

    @property
    def is_map(self) -> bool:
        return self.height > 0


TENSORS = 9  # the first fields of Scan
SCHEMA = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "Tensor? initial_state, bool softplus, bool reverse, SymInt height, SymInt width"
)
"""The fields of `Scan` as torch names their types."""

"""SS2D, VMamba's token mixer: one selective scan over a map in four directions.

Maps are channel-last, `(batch, height, width, channels)`. The projections act on each position by
itself, so only the recurrence knows a direction, and no copy of the map is reordered or flipped.
Parameter names are those of MzeroMiko/VMamba, so that released checkpoints load as they are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import linear, selective_scan_2d
from .linear import Linear

DIRECTIONS = 4
_DT_MIN, _DT_MAX, _DT_FLOOR = 0.001, 0.1, 1e-4


class SS2D(nn.Module):
    """A selective state space layer over a map.

    Args:
        d_model: width of the input and output.
        d_state: N, states a channel.
        ssm_ratio: inner width Di = ssm_ratio · d_model.
        dt_rank: rank R of the step-size projection; by default ceil(d_model / 16).
        d_conv: side of the depthwise convolution, odd.
        conv_bias: whether that convolution has a bias.
        gate: multiply the normed scan by SiLU of a second half of the input projection.
        float32_scan: run the scan and the norm behind it in float32 whatever the layer computes in.

    Attributes:
        backend: of the scan: see `ops.BACKENDS`; None chooses.

    Source: Liu et al., VMamba, arXiv 2401.10166, section 4.3; SS2Dv0 and SS2Dv2 of MzeroMiko/VMamba
        (forward types "v0", "v05" and "v05_noz").
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        dt_rank: int | None = None,
        *,
        d_conv: int = 3,
        conv_bias: bool = True,
        gate: bool = True,
        float32_scan: bool = False,
    ) -> None:
        super().__init__()
        d_inner = int(ssm_ratio * d_model)
        rank = dt_rank or math.ceil(d_model / 16)
        self.d_inner, self.d_state, self.dt_rank = d_inner, d_state, rank
        self.gate, self.float32_scan = gate, float32_scan
        self.backend: str | None = None

        self.in_proj = Linear(d_model, 2 * d_inner if gate else d_inner, bias=False)
        self.conv2d = nn.Conv2d(d_inner, d_inner, d_conv, groups=d_inner, padding=d_conv // 2, bias=conv_bias)
        self.x_proj_weight = nn.Parameter(torch.empty(DIRECTIONS, rank + 2 * d_state, d_inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(DIRECTIONS, d_inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(DIRECTIONS, d_inner))
        self.A_logs = nn.Parameter(torch.empty(DIRECTIONS * d_inner, d_state))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS * d_inner))
        self.out_norm = nn.LayerNorm(d_inner)
        self.out_proj = Linear(d_inner, d_model, bias=False)
        self._init_scan()

    def _init_scan(self) -> None:
        rank = self.dt_rank
        nn.init.uniform_(self.x_proj_weight, -(self.d_inner**-0.5), self.d_inner**-0.5)
        nn.init.uniform_(self.dt_projs_weight, -(rank**-0.5), rank**-0.5)
        # Steps start log-uniform in [0.001, 0.1]; the bias is the inverse of softplus at the step.
        low, high = math.log(_DT_MIN), math.log(_DT_MAX)
        step = torch.exp(torch.rand(self.dt_projs_bias.shape) * (high - low) + low).clamp_min(_DT_FLOOR)
        with torch.no_grad():
            self.dt_projs_bias.copy_(step + torch.log(-torch.expm1(-step)))
            self.A_logs.copy_(torch.arange(1, self.d_state + 1, dtype=torch.float32).log())

    def forward(self, x: Tensor) -> Tensor:
        """Mix a map.

        Args:
            x: `(batch, height, width, d_model)`.

        Returns:
            `(batch, height, width, d_model)` in the dtype of the projections.
        """
        x = self.in_proj(x.to(self.in_proj.weight.dtype))
        z = None
        if self.gate:
            x, z = x.chunk(2, dim=-1)
        x = F.silu(conv2d_last(self.conv2d, x))
        y = self.out_norm(self.scan(x).to(self.out_norm.weight.dtype)).to(x.dtype)
        if z is not None:
            y = y * F.silu(z)
        mixed: Tensor = self.out_proj(y)
        return mixed

    def scan(self, x: Tensor) -> Tensor:
        """Project and scan a map, the part between convolution and norm.

        Args:
            x: `(batch, height, width, Di)`.

        Returns:
            `(batch, height, width, Di)`, the sum of the four directions.
        """
        batch, height, width, channels = x.shape
        u = x.reshape(batch, height * width, channels)
        projected = linear(u, self.x_proj_weight.flatten(0, 1).to(u.dtype)).unflatten(-1, (DIRECTIONS, -1))
        dt, b, c = projected.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        # One product a direction; the result is a view with the direction axis outermost in memory.
        dt = dt.permute(2, 0, 1, 3).flatten(1, 2)
        delta = torch.bmm(dt, self.dt_projs_weight.transpose(1, 2).to(u.dtype))
        delta = delta.unflatten(1, (batch, -1)).permute(1, 2, 0, 3)
        if self.float32_scan:
            u, delta, b, c = u.float(), delta.float(), b.float(), c.float()
        y = selective_scan_2d(
            u, delta, -torch.exp(self.A_logs.float()), b, c, self.Ds.float(),
            self.dt_projs_bias.float().flatten(), height=height, width=width, backend=self.backend,
        )  # fmt: skip
        return y.view(batch, height, width, channels)


def conv2d_last(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 2-d convolution to a channel-last map `(B, H, W, C)`, and return a channel-last map.

    The transposed view that goes in is torch's channels_last memory format: nothing is copied.
    """
    x = x.to(conv.weight.dtype)
    y: Tensor = conv(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)

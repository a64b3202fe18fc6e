"""The Mamba mixer and its residual block, one direction or two: SSAM, SSAMBA and AuM share them.

Parameter names are those of state-spaces/mamba and hustvl/Vim, so that released checkpoints load as
they are. All tensors are channel-last, `(batch, L, channels)`; a direction is a flag of the scan and
the convolution, so that nothing is ever flipped or transposed.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import causal_conv1d, linear, selective_scan

Bidirectional = Literal["v1", "v2"] | None


class MixerState(NamedTuple):
    """What a causal mixer carries from one piece of a sequence to the next.

    `conv` holds the last d_conv − 1 inputs of the convolution `(batch, Di, d_conv − 1)`; `scan` the
    state of the recurrence `(batch, Di, N)`, float32.
    """

    conv: Tensor
    scan: Tensor


class MambaMixer(nn.Module):
    """A selective state space layer: four matrix products around a convolution and a scan.

    Args:
        d_model: width of the input and output.
        d_state: N, states a channel.
        d_conv: taps of the depthwise causal convolution.
        expand: inner width Di = expand · d_model.
        dt_rank: rank of the step-size projection; by default ceil(d_model / 16).
        bidirectional: None for one direction; "v1" adds a backward scan over the forward convolution's
            output with an A of its own; "v2" a backward direction with all parameters of its own.
        halve: divide the sum of the two directions of "v2" by two.

    Source: Gu & Dao, arXiv 2312.00752, section 3; mamba_simple.py of state-spaces/mamba 1.1.3 and of
        hustvl/Vim (bimamba v1 and v2).
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        bidirectional: Bidirectional = None,
        halve: bool = True,
    ) -> None:
        super().__init__()
        if bidirectional not in (None, "v1", "v2"):
            raise ConfigError(f"bidirectional: {bidirectional!r} is not one of None, 'v1', 'v2'")
        d_inner = expand * d_model
        self.d_inner, self.d_state, self.d_conv = d_inner, d_state, d_conv
        self.dt_rank = dt_rank or math.ceil(d_model / 16)
        self.bidirectional, self.halve = bidirectional, halve

        self.in_proj = nn.Linear(d_model, 2 * d_inner, bias=False)
        self.out_proj = nn.Linear(d_inner, d_model, bias=False)
        self._add_direction("")
        if bidirectional == "v1":
            self.A_b_log = nn.Parameter(self.A_log.detach().clone())
        elif bidirectional == "v2":
            self._add_direction("_b")

    def _add_direction(self, suffix: str) -> None:
        width, rank, states = self.d_inner, self.dt_rank, self.d_state
        conv = nn.Conv1d(width, width, self.d_conv, groups=width, padding=self.d_conv - 1)
        dt_proj = nn.Linear(rank, width)
        # Steps start log-uniform in [0.001, 0.1]; the bias is the inverse of softplus at the step.
        nn.init.uniform_(dt_proj.weight, -(rank**-0.5), rank**-0.5)
        step = torch.exp(torch.rand(width) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        step = step.clamp_min(1e-4)
        with torch.no_grad():
            dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))
        a = torch.arange(1, states + 1, dtype=torch.float32).repeat(width, 1)
        self.add_module("conv1d" + suffix, conv)
        self.add_module("x_proj" + suffix, nn.Linear(width, rank + 2 * states, bias=False))
        self.add_module("dt_proj" + suffix, dt_proj)
        self.register_parameter("A_b_log" if suffix else "A_log", nn.Parameter(a.log()))
        self.register_parameter("D" + suffix, nn.Parameter(torch.ones(width)))

    def forward(self, x: Tensor, reverse: bool = False) -> Tensor:
        """Mix a sequence.

        Args:
            x: `(batch, L, d_model)`.
            reverse: run as on the token-flipped sequence, with the result flipped back.

        Returns:
            `(batch, L, d_model)` in x's dtype.
        """
        xz = linear(x, self.in_proj.weight)
        x, z = xz.split(self.d_inner, dim=-1)
        if self.bidirectional == "v1":
            y = self._forward_v1(x, z, reverse)
        else:
            y = self._direction(x, z, "", reverse)
            if self.bidirectional == "v2":
                y = y + self._direction(x, z, "_b", not reverse)
                if self.halve:
                    y = y * 0.5
        return linear(y, self.out_proj.weight)

    def step(self, x: Tensor, state: MixerState | None) -> tuple[Tensor, MixerState]:
        """Mix the next piece of a sequence, going on from where the last piece ended.

        Args:
            x: `(batch, L, d_model)`, any L ≥ 1.
            state: what the call before returned; None at the start of a sequence.

        Returns:
            The output `(batch, L, d_model)`, equal to the same rows of `forward` on the whole sequence,
            and the state to go on with.

        Raises:
            ConfigError: the mixer is bidirectional and so needs the whole sequence.
        """
        if self.bidirectional is not None:
            raise ConfigError("a bidirectional mixer cannot go step by step: it needs the whole sequence")
        xz = linear(x, self.in_proj.weight)
        x, z = xz.split(self.d_inner, dim=-1)
        x, conv_state = causal_conv1d(
            x,
            self.conv1d.weight[:, 0],
            self.conv1d.bias,
            initial_state=None if state is None else state.conv,
            return_last_state=True,
        )
        delta, b, c = self._project(x, "")
        y, scan_state = selective_scan(
            x, delta, -torch.exp(self.A_log.float()), b, c, self.D.float(), z,
            self.dt_proj.bias.float(), True,
            initial_state=None if state is None else state.scan, return_last_state=True,
        )  # fmt: skip
        return linear(y, self.out_proj.weight), MixerState(conv_state, scan_state)

    def _project(self, x: Tensor, suffix: str) -> tuple[Tensor, Tensor, Tensor]:
        x_proj, dt_proj = getattr(self, "x_proj" + suffix), getattr(self, "dt_proj" + suffix)
        projected = linear(x, x_proj.weight)
        dt, b, c = projected.split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return linear(dt, dt_proj.weight), b, c

    def _direction(self, x: Tensor, z: Tensor, suffix: str, reverse: bool) -> Tensor:
        conv = getattr(self, "conv1d" + suffix)
        x = causal_conv1d(x, conv.weight[:, 0], conv.bias, reverse=reverse)
        delta, b, c = self._project(x, suffix)
        a_log = self.A_b_log if suffix else self.A_log
        d, bias = getattr(self, "D" + suffix), getattr(self, "dt_proj" + suffix).bias
        return selective_scan(
            x, delta, -torch.exp(a_log.float()), b, c, d.float(), z, bias.float(), True, reverse=reverse
        )

    def _forward_v1(self, x: Tensor, z: Tensor, reverse: bool) -> Tensor:
        x = causal_conv1d(x, self.conv1d.weight[:, 0], self.conv1d.bias, reverse=reverse)
        delta, b, c = self._project(x, "")
        d, bias = self.D.float(), self.dt_proj.bias.float()
        y = selective_scan(x, delta, -torch.exp(self.A_log.float()), b, c, d, z, bias, True, reverse=reverse)
        return y + selective_scan(
            x, delta, -torch.exp(self.A_b_log.float()), b, c, d, z, bias, True, reverse=not reverse
        )


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis with a learned scale, computed in float32."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x / rms(x) · weight, in x's dtype and shape."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def make_norm(kind: Literal["layer", "rms"], width: int, eps: float) -> nn.Module:
    """Return a LayerNorm or an RMSNorm over `width` channels."""
    return nn.LayerNorm(width, eps=eps) if kind == "layer" else RMSNorm(width, eps=eps)


class MambaBlock(nn.Module):
    """A mixer with its norm, in the add-norm-mix order of the reference code.

    The residual stream is kept in float32 whatever the mixer computes in (`residual_in_fp32`).

    Args:
        d_model: width.
        norm: "layer" or "rms".
        eps: of the norm.
        mixer: arguments of `MambaMixer`.
    """

    def __init__(
        self, d_model: int, norm: Literal["layer", "rms"] = "layer", eps: float = 1e-6, **mixer
    ) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model, eps)
        self.mixer = MambaMixer(d_model, **mixer)

    def forward(
        self, hidden: Tensor, residual: Tensor | None, reverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Add, norm, mix.

        Args:
            hidden: the last block's output `(batch, L, d_model)`.
            residual: the stream so far, float32, or None before the first block.
            reverse: see `MambaMixer.forward`.

        Returns:
            The mixer's output and the stream it is still to be added to.
        """
        residual = hidden.float() if residual is None else residual + hidden
        if self._adds_nothing():
            return torch.zeros_like(residual), residual
        return self.mixer(self._normed(residual), reverse), residual

    def step(
        self, hidden: Tensor, residual: Tensor | None, state: MixerState | None
    ) -> tuple[Tensor, Tensor, MixerState]:
        """Like `forward`, for the next piece of a sequence (see `MambaMixer.step`)."""
        residual = hidden.float() if residual is None else residual + hidden
        mixed, state = self.mixer.step(self._normed(residual), state)
        return mixed, residual, state

    def _normed(self, residual: Tensor) -> Tensor:
        return self.norm(residual).to(self.mixer.in_proj.weight.dtype)

    def _adds_nothing(self) -> bool:
        """Whether the output projection is zero, as in a deepened model's blocks before they are trained.

        Not asked where a gradient may be wanted, nor on a GPU, which the question would make wait.
        """
        weight = self.mixer.out_proj.weight
        if torch.is_grad_enabled() or weight.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        return not weight.any()


def mamba_blocks(
    depth: int, d_model: int, norm: Literal["layer", "rms"], eps: float, **mixer
) -> nn.ModuleList:
    """Return `depth` blocks that add to one stream, arguments as those of `MambaBlock`.

    Their output projections start scaled by 1/√depth, as in GPT-2, so that the stream's variance stays put.
    """
    blocks = [MambaBlock(d_model, norm, eps, **mixer) for _ in range(depth)]
    with torch.no_grad():
        for block in blocks:
            block.mixer.out_proj.weight /= depth**0.5
    return nn.ModuleList(blocks)

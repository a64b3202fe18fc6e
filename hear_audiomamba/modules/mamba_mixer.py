"""The Mamba mixer, one direction or two: SSAM, SSAMBA and AuM share it.

Parameter names are those of state-spaces/mamba and hustvl/Vim, so that released checkpoints load as
they are. All tensors are channel-last, `(batch, L, channels)`; a direction is a flag of the scan and
the convolution, so that nothing is ever flipped or transposed.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import causal_conv1d, linear, selective_scan
from ..ops.mixer import Direction, Norm, can_mix, mixer
from ..ops.prepared import prepared
from .linear import Linear

Bidirectional = Literal["v1", "v2"] | None


class MixerState(NamedTuple):
    """What a causal mixer carries from one piece of a sequence to the next.

    `conv` holds the last d_conv − 1 inputs of the convolution `(batch, Di, d_conv − 1)`; `scan` the
    state of the recurrence `(batch, Di, N)`, float32.
    """

    conv: Tensor
    scan: Tensor


class StepSize(nn.Linear):
    """The projection to step sizes. The scan adds its bias, inside the softplus, so it stays float32."""


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

    Attributes:
        backend: of the scan and the convolution: see `ops.BACKENDS`; None chooses.

    Source: Gu & Dao, arXiv 2312.00752, section 3; mamba_simple.py of state-spaces/mamba 1.1.3 and of
        hustvl/Vim (bimamba v1 and v2).
    """

    A_log: nn.Parameter
    A_b_log: nn.Parameter
    D: nn.Parameter
    D_b: nn.Parameter
    conv1d: nn.Conv1d
    conv1d_b: nn.Conv1d
    x_proj: nn.Linear
    x_proj_b: nn.Linear
    dt_proj: StepSize
    dt_proj_b: StepSize

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
        self.backend: str | None = None

        self.in_proj = Linear(d_model, 2 * d_inner, bias=False)
        self.out_proj = Linear(d_inner, d_model, bias=False)
        self._add_direction("")
        if bidirectional == "v1":
            self.A_b_log = nn.Parameter(self.A_log.detach().clone())
        elif bidirectional == "v2":
            self._add_direction("_b")

    def _add_direction(self, suffix: str) -> None:
        width, rank, states = self.d_inner, self.dt_rank, self.d_state
        conv = nn.Conv1d(width, width, self.d_conv, groups=width, padding=self.d_conv - 1)
        dt_proj = StepSize(rank, width)
        # Steps start log-uniform in [0.001, 0.1]; the bias is the inverse of softplus at the step.
        nn.init.uniform_(dt_proj.weight, -(rank**-0.5), rank**-0.5)
        step = torch.exp(torch.rand(width) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        step = step.clamp_min(1e-4)
        with torch.no_grad():
            dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))
        a = torch.arange(1, states + 1, dtype=torch.float32).repeat(width, 1)
        self.add_module("conv1d" + suffix, conv)
        self.add_module("x_proj" + suffix, Linear(width, rank + 2 * states, bias=False))
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
        if self._one_call(x):
            return self._mix(x, reverse)
        ways = self._directions()
        x, z = self.in_proj(x).split(self.d_inner, dim=-1)
        x_ahead = self._convolve(x, ways[0], reverse)
        y = self._scan(x_ahead, z, self.x_proj, ways[0], reverse)
        if self.bidirectional == "v1":
            y = y + self._scan(x_ahead, z, self.x_proj, ways[0]._replace(a_log=self.A_b_log), not reverse)
        elif self.bidirectional == "v2":
            y = y + self._scan(
                self._convolve(x, ways[1], not reverse), z, self.x_proj_b, ways[1], not reverse
            )
            if self.halve:
                y = y.mul_(0.5)
        mixed: Tensor = self.out_proj(y)
        return mixed

    def in_block(self, stream: Tensor, norm: Norm, reverse: bool) -> Tensor | None:
        """Return the stream `(batch, L, d_model)` with what is mixed of it after a norm, where one call does both.

        None where no kernel does.
        """
        return self._mix(stream, reverse, norm) if self._one_call(stream, norm) else None

    def _one_call(self, x: Tensor, norm: Norm | None = None) -> bool:
        """Tell whether the kernel can do all at once: the products are the mixer's own, and no hook waits for them.

        LoRA and quantisers put other modules in their place; pruning and parametrisations compute weights in hooks.
        """
        products = [self.in_proj, self.out_proj, self.x_proj]
        if self.bidirectional == "v2":
            products.append(self.x_proj_b)
        if self.bidirectional == "v1" or any(type(part) is not Linear or hooked(part) for part in products):
            return False
        return can_mix(x, self.in_proj.weight, self.out_proj.weight, self._directions(), self.backend, norm)

    def _mix(self, x: Tensor, reverse: bool, norm: Norm | None = None) -> Tensor:
        ways = self._directions()
        return mixer(x, self.in_proj.weight, self.out_proj.weight, ways, reverse, norm, self._scale)

    @property
    def _scale(self) -> float:
        return 0.5 if self.bidirectional == "v2" and self.halve else 1.0

    def step(self, x: Tensor, state: MixerState | None) -> tuple[Tensor, MixerState]:
        """Mix the next piece of a sequence, continuing from where the last piece ended.

        Args:
            x: `(batch, L, d_model)`, any L ≥ 1.
            state: what the call before returned; None at the start of a sequence.

        Returns:
            The output `(batch, L, d_model)`, equal to the same rows of `forward` on the whole sequence,
            and the state to continue with.

        Raises:
            ConfigError: the mixer is bidirectional and so needs the whole sequence.
        """
        if self.bidirectional is not None:
            raise ConfigError("a bidirectional mixer cannot go step by step: it needs the whole sequence")
        (way,) = self._directions()
        x, z = self.in_proj(x).split(self.d_inner, dim=-1)
        x, conv_state = causal_conv1d(
            x, prepared(_taps, way.conv), way.conv_bias,
            initial_state=None if state is None else state.conv, return_last_state=True,
            backend=self.backend,
        )  # fmt: skip
        delta, b, c = self._project(x, self.x_proj, way)
        y, scan_state = selective_scan(
            x, delta, prepared(_decay_rates, way.a_log), b, c, way.d.float(), z, way.dt_bias.float(), True,
            initial_state=None if state is None else state.scan, return_last_state=True,
            backend=self.backend,
        )  # fmt: skip
        return self.out_proj(y), MixerState(conv_state, scan_state)

    def _directions(self) -> tuple[Direction, ...]:
        """Return the parameters of the directions that have parameters of their own: one or two."""
        self._refuse_replaced()
        ahead = Direction(
            self.conv1d.weight, _bias_of(self.conv1d), self.x_proj.weight,
            self.dt_proj.weight, self.dt_proj.bias, self.A_log, self.D,
        )  # fmt: skip
        if self.bidirectional != "v2":
            return (ahead,)
        back = Direction(
            self.conv1d_b.weight, _bias_of(self.conv1d_b), self.x_proj_b.weight,
            self.dt_proj_b.weight, self.dt_proj_b.bias, self.A_b_log, self.D_b,
        )  # fmt: skip
        return ahead, back

    def _refuse_replaced(self) -> None:
        for name in ("conv1d", "dt_proj") + (("conv1d_b", "dt_proj_b") if self.bidirectional == "v2" else ()):
            part = self.get_submodule(name)
            if not isinstance(part, (nn.Conv1d, StepSize)):
                raise ConfigError(
                    f"{name}: replaced by {type(part).__name__}, but only its weights are used, in the scan; "
                    "replace in_proj, x_proj or out_proj"
                )

    def _convolve(self, x: Tensor, way: Direction, reverse: bool) -> Tensor:
        return causal_conv1d(
            x, prepared(_taps, way.conv), way.conv_bias, reverse=reverse, backend=self.backend
        )

    def _project(self, x: Tensor, x_proj: nn.Module, way: Direction) -> tuple[Tensor, Tensor, Tensor]:
        dt, b, c = x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return linear(dt, way.dt_proj), b, c

    def _scan(self, x: Tensor, z: Tensor, x_proj: nn.Module, way: Direction, reverse: bool) -> Tensor:
        delta, b, c = self._project(x, x_proj, way)
        return selective_scan(
            x, delta, prepared(_decay_rates, way.a_log), b, c, way.d.float(), z, way.dt_bias.float(), True,
            reverse=reverse, backend=self.backend,
        )  # fmt: skip


def hooked(module: nn.Module) -> bool:
    """Tell whether hooks wait for a module's forward, which would be silent where one call does its work."""
    # PyTorch has no public way to ask. The two names are as old as hooks; torch.compile and torch.jit read them too.
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _bias_of(conv: nn.Conv1d) -> Tensor:
    # Not `get_parameter`: `torch.func.functional_call` puts tensors that are no parameters in its place.
    assert conv.bias is not None
    return conv.bias


def _decay_rates(a_log: Tensor) -> Tensor:
    return -torch.exp(a_log.float())


def _taps(weight: Tensor) -> Tensor:
    """Return the taps `(Di, d_conv)` of a depthwise convolution's weight `(Di, 1, d_conv)`, float32 or wider."""
    return weight[:, 0].to(torch.promote_types(weight.dtype, torch.float32))

"""A scan's kernels as operators of torch, which `torch.compile`, `torch.export` and autograd see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import native
from .arguments import SCHEMA, TENSORS, Optional, Scan

Results = tuple[Tensor, Tensor, Tensor]


def register(
    name: str,
    forward: Callable[[Scan, bool], Results],
    backward: Callable[[Tensor, Tensor, Tensor, Scan], Sequence[Optional]],
    results: Callable[[Scan, bool], Results],
    device_types: str | None = None,
) -> Callable[..., Results]:
    """Register a scan and its gradients with torch.

    Args:
        name: of the operator; that of the gradients is `<name>_backward`.
        forward: returns y, the last state and, if its second argument asks for them, the states that `backward`
            starts from; else an empty tensor `(0,)`.
        backward: returns the gradients of `Scan.tensors`, dense and in their dtypes, None for those left out.
            Its arguments: the gradients of y and of the last state, those states, and the scan.
        results: returns tensors like those of `forward`, with any values.
        device_types: where it runs; None for everywhere.

    Returns:
        The operator. Its arguments: the fields of `Scan`, and whether to keep the states for `backward`.
    """

    def run(*given: Any) -> Results:
        *fields, keep = given
        return forward(Scan(*fields), keep)

    def differentiate(dy: Tensor, dlast: Tensor, states: Tensor, *fields: Any) -> list[Tensor]:
        call = Scan(*fields)
        return [call.A.new_empty(0) if t is None else t for t in backward(dy, dlast, states, call)]

    def like_run(*given: Any) -> Results:
        *fields, keep = given
        return results(Scan(*fields), keep)

    def like_differentiate(dy: Tensor, dlast: Tensor, states: Tensor, *fields: Any) -> list[Tensor]:
        call = Scan(*fields)
        return [call.A.new_empty(0) if t is None else t.new_empty(t.shape) for t in call.tensors]

    def remember(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:
        call = Scan(*inputs[:-1])
        ctx.save_for_backward(output[2], *call.tensors)
        ctx.options = call[TENSORS:]

    def gradients(ctx: Any, dy: Tensor, dlast: Tensor, _: Tensor) -> tuple[Optional, ...]:
        states, *tensors = ctx.saved_tensors
        if states.ndim == 1:  # a graph that was made without gradients, as by `torch.export` under `no_grad`
            _, _, states = scan(*tensors, *ctx.options, True)
        found = scan_backward(dy, dlast, states, *tensors, *ctx.options)
        given = [None if t is None else gradient for t, gradient in zip(tensors, found, strict=True)]
        return (*given, *(None for _ in ctx.options), None)

    def operator(name: str, function: Callable[..., Any], schema: str) -> Any:
        return torch.library.custom_op(
            f"hear_audiomamba::{name}", function, mutates_args=(), device_types=device_types, schema=schema
        )

    scan_op = operator(name, run, f"({SCHEMA}, bool save) -> (Tensor, Tensor, Tensor)")
    backward_op = operator(
        f"{name}_backward", differentiate, f"(Tensor dy, Tensor dlast, Tensor states, {SCHEMA}) -> Tensor[]"
    )
    scan_op.register_fake(like_run)
    backward_op.register_fake(like_differentiate)
    scan_op.register_autograd(gradients, setup_context=remember)
    backward_op.register_autograd(native.no_second_derivatives)
    scan: Callable[..., Results] = scan_op._opoverload
    scan_backward: Callable[..., list[Tensor]] = backward_op._opoverload
    return scan

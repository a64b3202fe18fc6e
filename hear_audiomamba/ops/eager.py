"""What torch may be doing around a call: tracing, transforming, differentiating, or nothing at all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode


def plain_call(*tensors: Tensor | None) -> bool:
    """Tell whether a call may go straight to a kernel, past torch's dispatcher and autograd.

    Args:
        tensors: all that the call reads; None for an argument left out.
    """
    return not watched(*tensors) and not records_gradients(*tensors)


def watched(*tensors: Tensor | None) -> bool:
    """Tell whether anything but a backward pass has to see a call.

    That is `torch.compile`, `torch.jit.trace`, a dispatch mode, a tensor subclass, a view whose values torch is
    to negate when they are read (the imaginary part of a conjugate), or what `transformed` finds.
    """
    if torch.compiler.is_compiling() or traced() or _get_current_dispatch_mode() is not None:
        return True
    if any(t is not None and (type(t) not in (Tensor, torch.nn.Parameter) or t.is_neg()) for t in tensors):
        return True
    return transformed(*tensors)


def traced() -> bool:
    """Tell whether `torch.jit.trace` is watching."""
    return torch._C._get_tracing_state() is not None


def records_gradients(*tensors: Tensor | None) -> bool:
    """Tell whether a call on these tensors is recorded for a backward pass."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def transformed(*tensors: Tensor | None) -> bool:
    """Tell whether a call is inside a transform of `torch.func`, or a tensor has a forward-mode derivative.

    Only the reference, made of PyTorch's own operators, can follow both.
    """
    if _in_transform():
        return True
    if torch.compiler.is_compiling():
        return False  # the compiler refuses tensors with forward-mode derivatives by itself
    return any(t is not None and forward_ad.unpack_dual(t).tangent is not None for t in tensors)


def _in_transform() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


# `torch.compile` keeps the answer, and traces again where it would be another one. This is all that
# `torch.compiler.assume_constant_result` does, which would import the whole compiler, and triton, here.
_in_transform._dynamo_marked_constant = True  # type: ignore[attr-defined]

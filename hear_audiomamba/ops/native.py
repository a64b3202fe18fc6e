"""The compiled kernels: finding the shared library, and its C structs (see csrc/interface.h)."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import BackendError
from ..io.process import waits_passively

logger = logging.getLogger(__name__)

INTERFACE = 3  # as kInterface in csrc/interface.h
LIBRARY = Path(__file__).parent / "_kernels.so"
ISA_VARIABLE = "AUDIOMAMBA_ISA"
HOW_TO_BUILD = "in a checkout, where g++ is present: pip install --force-reinstall --no-deps ."
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
BLOCK = 16
MAX_STATES = 256


class View(ctypes.Structure):
    """A tensor with contiguous channels: address, dtype code, strides in elements."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int64),
        ("batch", ctypes.c_int64),
        ("row", ctypes.c_int64),
        ("group", ctypes.c_int64),
    ]

    @classmethod
    def of(cls, tensor: Tensor | None) -> View:
        """Describe (batch, rows, channels) or (batch, rows, groups, channels)."""
        if tensor is None:
            return cls()
        strides = tensor.stride()
        group = strides[2] if tensor.ndim == 4 else 0
        return cls(tensor.data_ptr(), DTYPES[tensor.dtype], strides[0], strides[1], group)


def float_buffer(*shape: int) -> Tensor:
    """Return memory for a kernel's float32 results, whatever the program's default type and device are."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


_KINDS: dict[str, Any] = {
    "size": ctypes.c_int64,
    "view": View,
    "real": ctypes.c_double,
    "floats": ctypes.c_void_p,
    "weights": ctypes.c_void_p,
}


def _struct(name: str, fields: str) -> type[ctypes.Structure]:
    """Make a Structure from "kind: field field; kind: …", kinds as in the header."""
    pairs = []
    for part in fields.split(";"):
        kind, names = part.split(":")
        pairs += [(field, _KINDS[kind.strip()]) for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": pairs})


ScanArgs = _struct(
    "ScanArgs",
    "size: batch length channels states groups directions height width reverse softplus;"
    "view: u delta z B C y;"
    "floats: A D delta_bias initial_state last_state checkpoints",
)


ScanGradients = _struct(
    "ScanGradients",
    "view: dy du ddelta dz dB dC; floats: dlast_state dA dD ddelta_bias dinitial_state; size: split_stride",
)
ConvArgs = _struct(
    "ConvArgs", "size: batch length channels taps reverse silu; view: x y; floats: weight bias initial_state"
)
ConvGradients = _struct("ConvGradients", "view: dy dx; floats: dweight dbias dinitial_state")
MixerDirection = _struct("MixerDirection", "floats: taps conv_bias dt_proj dt_bias decay D; weights: x_proj")
_KINDS["way"] = MixerDirection
MixerArgs = _struct(
    "MixerArgs",
    "size: batch length width channels states rank dtype norm reverse directions;"
    "real: eps scale; floats: norm_weight norm_bias; view: x y; weights: in_proj out_proj; way: ahead back",
)


def run(function: str, *arguments: ctypes.Structure) -> None:
    """Call a kernel on as many threads as torch uses.

    Raises:
        BackendError: there is not enough memory.
    """
    threads = ctypes.c_int64(torch.get_num_threads())
    if getattr(load(), f"audiomamba_{function}")(*map(ctypes.byref, arguments), threads):
        sizes = f"a batch of {arguments[0].batch} with {arguments[0].length} tokens each"
        raise BackendError(
            f"out of memory on the CPU in {function} of {sizes}; use smaller batches or shorter clips"
        )


def no_second_derivatives(ctx: object, *gradients: object) -> None:
    """Stand in for the gradient of a kernel's gradients.

    Raises:
        BackendError: always; says what has them.
    """
    raise BackendError(
        'the compiled kernels have no second derivatives; load_model(backend="torch") has, more slowly'
    )


def why_not(u: Tensor) -> str | None:
    """Say why the kernels cannot take inputs like `u`; None when they can."""
    if u.device.type != "cpu":
        return f"the compiled CPU kernel cannot read {u.device} tensors"
    if u.dtype == torch.float64:
        return "the compiled kernel computes in float32; float64 inputs run in PyTorch"
    try:
        load()
    except BackendError as error:
        return str(error)
    return None


def pointer(tensor: Tensor | None) -> int | None:
    """Return a tensor's address, or None for a null pointer."""
    return None if tensor is None else tensor.data_ptr()


def readable(tensor: Tensor | None) -> Tensor | None:
    """Return a tensor the kernels can read in place: unit channel stride, float32 or bfloat16."""
    if tensor is None:
        return None
    if tensor.dtype not in DTYPES:
        tensor = tensor.float()
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def parameter(tensor: Tensor | None) -> Tensor | None:
    """Return a small tensor as dense float32."""
    if tensor is None or (tensor.dtype == torch.float32 and tensor.is_contiguous()):
        return tensor
    return tensor.detach().float().contiguous()


@functools.cache
def load() -> ctypes.CDLL:
    """Load the library, and choose its threads and its instruction set.

    Torch's threads are used, or, where these sleep while they wait, threads of the library's own: those need not
    be waited for, which is what makes a busy machine slow.

    Raises:
        BackendError: it was not built, does not load or is of another version, or `AUDIOMAMBA_ISA` names
            what this CPU lacks.
    """
    if not LIBRARY.is_file():
        raise BackendError(f"the compiled kernel is not built; {HOW_TO_BUILD}")
    if _is_cut(LIBRARY):
        raise BackendError(f"the compiled kernel is cut; {HOW_TO_BUILD}")
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise BackendError(f"the compiled kernel does not load ({error}); {HOW_TO_BUILD}") from error
    try:
        _declare(library)
    except AttributeError as error:
        raise BackendError(f"the compiled kernel is of another version ({error}); {HOW_TO_BUILD}") from None
    library.audiomamba_set_openmp(None if waits_passively() else _torch_thread_pool())
    logger.info("compiled kernel: %s", _choose(library, None))
    return library


def _is_cut(path: Path) -> bool:
    """Tell whether the end of a 64-bit ELF file is missing; using one ends the process (SIGBUS)."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(64)
        if head.startswith(b"\x7fELF\2\1") and len(head) == 64:
            table, of_one, count = (
                int.from_bytes(head[a:b], "little") for a, b in ((40, 48), (58, 60), (60, 62))
            )
            return path.stat().st_size < table + of_one * count
    return False


def _declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the types of the library's functions; AttributeError if it has others."""
    library.audiomamba_interface.restype = ctypes.c_int64
    if (found := library.audiomamba_interface()) != INTERFACE:
        raise AttributeError(f"interface {found} instead of {INTERFACE}")
    library.audiomamba_choose.argtypes = [ctypes.c_char_p]
    library.audiomamba_choose.restype = ctypes.c_char_p
    library.audiomamba_set_openmp.argtypes = [ctypes.c_void_p]
    library.audiomamba_set_openmp.restype = None
    library.audiomamba_channels_per_item.restype = ctypes.c_int64
    library.audiomamba_chosen.restype = ctypes.c_char_p
    library.audiomamba_mixes.restype = ctypes.c_int64
    for kernel in ("scan_forward", "scan_backward", "conv_forward", "conv_backward", "mixer"):
        getattr(library, f"audiomamba_{kernel}").restype = ctypes.c_int64


def use_own_threads(own: bool) -> None:
    """Let the kernels use threads of their own (csrc/pool.h), or torch's, for tests and comparisons."""
    load().audiomamba_set_openmp(None if own else _torch_thread_pool())


def isa() -> str:
    """Return the instruction set the kernels use now: "avx512", "avx2" or "portable".

    Raises:
        BackendError: the library cannot be loaded.
    """
    return str(load().audiomamba_chosen().decode())


def mixes(dtype: torch.dtype) -> bool:
    """Tell whether the kernels have a mixer for inputs of a type: in bfloat16 only by AMX."""
    return dtype in DTYPES and bool(load().audiomamba_mixes(ctypes.c_int64(DTYPES[dtype])))


def choose_isa(name: str | None) -> str:
    """Switch the kernels to another instruction set, for tests and comparisons.

    Args:
        name: "avx512", "avx2" or "portable"; None for what `AUDIOMAMBA_ISA` says, else the best of this CPU.

    Returns:
        The instruction set now in use.

    Raises:
        BackendError: this CPU or build lacks it.
    """
    return _choose(load(), name)


def _choose(library: ctypes.CDLL, name: str | None) -> str:
    wanted = name or os.environ.get(ISA_VARIABLE) or None
    chosen = library.audiomamba_choose(wanted.encode() if wanted else None)
    if chosen is None:
        raise BackendError(
            f"instruction set {wanted!r} cannot run on this machine; known: avx512, avx2, portable"
        )
    return str(chosen.decode())


def _torch_thread_pool() -> int | None:
    """Return the address of `GOMP_parallel` in the OpenMP runtime torch itself uses, or None.

    LLVM's and Intel's runtimes hold the same entry point, so one name serves all of torch's builds.
    """
    folder = Path(torch.__file__).parent
    places = [*folder.glob("lib/lib*omp*"), *folder.parent.glob("torch.libs/lib*omp*"), None]
    for place in places:
        try:
            runtime = ctypes.CDLL(None if place is None else str(place))
            return ctypes.cast(runtime.GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None

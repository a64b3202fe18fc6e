"""What hear-validator asks of a HEAR module, as a list of results instead of a first failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
# One clip shorter than a window, one near it, one beyond: those of hear-validator.
CLIP_SECONDS = (1.07, 1.98, 4.0)
SCENE_SECONDS = 2.74


@dataclass(frozen=True)
class Check:
    """One thing looked at: `status` is "ok", "warning" (the validator continues) or "error" (it stops)."""

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str


def check_module(module: ModuleType, load: Callable[[], Any]) -> Iterator[Check]:
    """Check a HEAR module, one result after the other.

    Args:
        module: with `load_model`, `get_scene_embeddings` and `get_timestamp_embeddings`.
        load: loads its model.

    Yields:
        The checks, in the order of hear-validator, and those it cannot make: a clip's embedding must not
        depend on its neighbours, nor change from run to run. Ends early at an error that hides the rest.
    """
    functions = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
    absent = [name for name in functions if not callable(getattr(module, name, None))]
    yield _result("functions", not absent, f"missing {', '.join(absent)}", "all three are there")
    if absent:
        return
    model = load()
    is_module = isinstance(model, nn.Module)
    yield _result(
        "load_model", is_module, f"returned {type(model).__name__}, not a torch.nn.Module", "torch.nn.Module"
    )
    rate = getattr(model, "sample_rate", None)
    yield _result("sample_rate", rate in SAMPLE_RATES, f"{rate!r} is not one of {SAMPLE_RATES}", f"{rate} Hz")
    sizes: list[Any] = [getattr(model, f"{kind}_embedding_size", None) for kind in ("scene", "timestamp")]
    for kind, size in zip(("scene", "timestamp"), sizes):
        yield _result(f"{kind}_embedding_size", isinstance(size, int), f"{size!r} is not an int", str(size))
    if not is_module or rate not in SAMPLE_RATES or not all(isinstance(size, int) for size in sizes):
        return
    for seconds in CLIP_SECONDS:
        audio = _noise(2, seconds, rate)
        yield from _check_timestamps(seconds, sizes[1], *module.get_timestamp_embeddings(audio, model))
    audio = _noise(4, SCENE_SECONDS, rate)
    scene = module.get_scene_embeddings(audio, model)
    yield _shape("scene embeddings", scene, (4, sizes[0]))
    again = module.get_scene_embeddings(audio, model)
    yield _result("same input, same output", torch.equal(scene, again), "a second run differs", "bit-equal")
    alone = module.get_scene_embeddings(audio[:1], model)
    gap = (alone - scene[:1]).abs().max().item()
    yield _result(
        "batch mates", gap <= 1e-4, f"a clip alone differs by {gap:.1e}", f"differ by {gap:.0e}", "warning"
    )


def _check_timestamps(seconds: float, size: int, embeddings: Tensor, times: Tensor) -> Iterator[Check]:
    label = f"timestamps of {seconds:g} s"
    ms = 1000.0 * seconds
    yield _shape(label, embeddings, (2, times.shape[-1], size))
    if times.shape != embeddings.shape[:2]:
        yield Check(
            label, "error", f"times have shape {tuple(times.shape)}, not {tuple(embeddings.shape[:2])}"
        )
        return
    first, last = times.min().item(), times.max().item()
    if last > ms or first < 0:
        yield Check(label, "error", f"{first:.1f} … {last:.1f} ms lie outside the clip of {ms:.0f} ms")
        return
    if times.shape[1] > 1:
        steps = times.double().diff(dim=1)
        step = steps.mean().item()
        jitter = (steps - step).abs().max().item()
        yield _result(label, jitter <= 1.0, f"not regular: {jitter:.2f} ms off", f"every {step:.1f} ms")
        if step > 50.0:
            yield Check(label, "warning", f"{step:.1f} ms apart; HEAR asks for 50 ms or less")
        if first > step:
            yield Check(label, "warning", f"begin at {first:.1f} ms, later than one step")
        if last < ms - min(step, 50.0):
            yield Check(label, "warning", f"end at {last:.1f} ms, {ms - last:.1f} ms before the clip does")


def _shape(name: str, value: Tensor, expected: tuple[int, ...]) -> Check:
    good = tuple(value.shape) == expected and value.dtype == torch.float32
    found = f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return _result(name, good, f"{found}, expected {expected} float32", found)


def _result(
    name: str, good: bool, wrong: str, right: str, status: Literal["warning", "error"] = "error"
) -> Check:
    return Check(name, "ok" if good else status, right if good else wrong)


def _noise(count: int, seconds: float, rate: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, int(seconds * rate), generator=generator) * 2 - 1

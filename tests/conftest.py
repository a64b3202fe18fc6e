"""Settings for all tests: no network, quiet logs, repeatable hypothesis runs."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

from hear_audiomamba import load_model

from .skips import pytest_configure as pytest_configure

settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("project")


@pytest.fixture(scope="session")
def small_model():
    """A two-block SSAM: every path of the real one, at a fraction of the time."""
    return load_model(variant="ssam_tiny", depth=2, device="cpu")


@pytest.fixture
def noise():
    """Return a function that makes repeatable noise clips `(count, samples)` in [-0.5, 0.5]."""

    def make(count: int, samples: int, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(count, samples, generator=generator) - 0.5

    return make

"""Settings for all tests: no network, quiet logs, repeatable hypothesis runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub

import pytest
import torch
from hypothesis import HealthCheck, settings

from hear_audiomamba import load_model

# Tests that may be skipped, and why. Any other skip fails the run: a test that does not run proves nothing.
MAY_SKIP = (
    r"no GPU; test_triton.py runs this file in Triton's interpreter|there is a GPU|run on the GPU by themselves",
    r"triton|mamba_ssm|causal_conv1d",  # NVIDIA's and Linux's
    r"compares the others with it",  # a backend against itself
    r"it is in the extra adapters|bacpipe",
    r"ray|faiss|usearch|umap|torchaudio",  # extras too large for the test extra
    r"HEAR's tools are not installed|make heareval",  # an environment of their own
    r"browser|playwright|chromium",
    r"dpkg-deb|fluidsynth|py-nanotts",  # Debian's tools, for the corpus recipes
    r"part of a checkout|from a checkout|g\+\+|compiler|the compiled kernel is not built|no oneDNN",
    r"glibc|POSIX|posix|/proc|/dev/full|sparse files|Windows has no fork|not the super-user|needs root|as root",
    r"ffmpeg|sox",
)


class Skips:
    """Collects skips that are not on the list and fails the run for them."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look_at(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look_at(report)

    def _look_at(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            if not re.search("|".join(MAY_SKIP), reason):
                self.unexpected.append(f"{report.nodeid}: {reason}")

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        yield
        if self.unexpected and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexpected:
            terminalreporter.section("skips that are not on the list in tests/conftest.py", red=True)
            for line in self.unexpected:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Let an unexpected skip fail the run; AUDIOMAMBA_ALLOW_SKIPS=1 is for machines without the extras."""
    if not os.environ.get("AUDIOMAMBA_ALLOW_SKIPS"):
        config.pluginmanager.register(Skips(), "unexpected-skips")


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

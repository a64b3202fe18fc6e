"""An exported model for several files of tests: exporting takes longer than all that is asked of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hear_audiomamba import load_model
from hear_audiomamba.adapters.export import export_onnx
from hear_audiomamba.embedding.embedder import AudioEmbedder


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory) -> tuple[AudioEmbedder, Path]:
    """A small model with random weights and without classes, and its ONNX file."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    model = load_model(variant="ssam_tiny", depth=2, device="cpu")
    return model, export_onnx(model, tmp_path_factory.mktemp("onnx") / "model.onnx")

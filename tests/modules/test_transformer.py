"""The Transformer block runs wherever PyTorch does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IN_BFLOAT16 = """
import torch
from hear_audiomamba.modules.transformer import Attention

torch.manual_seed(0)
attention, x = Attention(64, 2), torch.randn(2, 70, 64)
with torch.no_grad():
    exact = attention(x)
    rounded = attention.bfloat16()(x.bfloat16()).float()
error = (rounded - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()
# Two products with weights and two with activations; inputs, weights and results are rounded to a relative 2^-9.
assert error < 8 * 2**-9, error
"""


@pytest.mark.parametrize("capability", ("default", "avx2", "avx512"))
def test_bfloat16_with_every_instruction_set_that_pytorch_is_told_to_use(capability):
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run(
        [sys.executable, "-c", IN_BFLOAT16], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

"""A model that was used computes in processes forked afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import multiprocessing, warnings
import torch
warnings.simplefilter("ignore")
from hear_audiomamba import load_model
torch.set_num_threads(2)
model = load_model(variant="ssam_tiny", depth=1, device="cpu")
audio = torch.randn(2, 32000) * 0.1
before = model.scene(audio)
context = multiprocessing.get_context("fork")
results = context.Queue()
child = context.Process(target=lambda: results.put(model.scene(audio).tolist()))
child.start()
after = torch.tensor(results.get(timeout=600))
child.join()
print(float((after - before).abs().max()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_embeds_as_its_parent_did():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= 1e-5

"""The Triton kernels on a machine without a GPU: run in the interpreter, compiled for GPUs, or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
HAS_TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hear_audiomamba.ops.causal_conv1d.triton_kernels import conv_backward, conv_forward
from hear_audiomamba.ops.selective_scan.triton_backward import flow_forward, scan_backward
from hear_audiomamba.ops.selective_scan.triton_forward import scan_boundaries, scan_forward

half = "u delta b c z y x grad_y grad_u grad_delta grad_z grad_x".split()
full = (
    "rate skip bias state checkpoints delta_sum ends scratch flow grad_rate grad_b grad_c grad_skip grad_bias"
    " weight grad_weight grad_state"
).split()
values = dict(
    N=24, TILE=8, BLOCK=64, SEGMENT=64, B_ROW=60, C_ROW=60, GROUPS=1, SOFTPLUS=True, REVERSE=True,
    W=4, ROWS=32, SILU=True,
)
for kernel in (scan_forward, scan_boundaries, flow_forward, scan_backward, conv_forward, conv_backward):
    names = kernel.arg_names
    kind = lambda n: "constexpr" if n in values else "*bf16" if n in half else "*fp32" if n in full else "i32"
    source = ASTSource(
        kernel,
        signature={n: kind(n) for n in names},
        constexprs={(names.index(n),): v for n, v in values.items() if n in names},
    )
    target = GPUTarget("cuda", int(sys.argv[1]), 32)
    compiled = triton.compile(source, target=target, options={"num_warps": 1, "enable_fp_fusion": True})
    print(kernel.__name__, len(compiled.asm["cubin"]))
"""


def run(*command: str, **environment: str) -> str:
    """Return what a process prints; the test fails with its output if the process does."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@HAS_TRITON
@pytest.mark.skipif(torch.cuda.is_available(), reason="the same tests run on the GPU by themselves")
@pytest.mark.parametrize("what", ["scan", "conv"])
def test_interpreted_kernels_agree_with_the_reference(what):
    run(
        "-m",
        "pytest",
        "-x",
        "-q",
        f"tests/ops/test_triton_{what}.py",
        TRITON_INTERPRET="1",
        OMP_NUM_THREADS="1",
    )


@HAS_TRITON
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90"])
def test_kernels_compile_for_gpus_that_are_not_here(capability, tmp_path):
    (tmp_path / "build.py").write_text(COMPILE)
    out = run(str(tmp_path / "build.py"), capability, TRITON_CACHE_DIR=str(tmp_path), PYTHONPATH=str(ROOT))
    assert len(out.splitlines()) == 6


def test_without_triton_a_scan_runs_and_asking_for_the_backend_says_why_not():
    run(
        "-c",
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from hear_audiomamba.errors import BackendError\n"
        "from hear_audiomamba.ops import selective_scan\n"
        "x = torch.ones(1, 2, 3)\n"
        "given = x, x, -torch.ones(3, 1), torch.ones(1, 2, 1), torch.ones(1, 2, 1)\n"
        "selective_scan(*given)\n"
        "try: selective_scan(*given, backend='triton')\n"
        "except BackendError as error: assert 'triton' in str(error), error\n"
        "else: raise AssertionError('no error')\n",
    )


def test_importing_the_package_does_not_import_triton():
    run("-c", "import sys, hear_audiomamba, hear_audiomamba.ops; assert 'triton' not in sys.modules")


@HAS_TRITON
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_asking_for_the_backend_names_the_device():
    run(
        "-c",
        "import torch\n"
        "from hear_audiomamba.errors import BackendError\n"
        "from hear_audiomamba.ops import causal_conv1d\n"
        "try: causal_conv1d(torch.ones(1, 2, 3), torch.ones(3, 4), backend='triton')\n"
        "except BackendError as error: assert 'cpu' in str(error) and 'GPU' in str(error), error\n"
        "else: raise AssertionError('no error')\n",
    )

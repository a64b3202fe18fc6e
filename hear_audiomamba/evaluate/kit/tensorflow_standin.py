"""A stand-in for TensorFlow, enough for HEAR's tools when they are used with PyTorch models.

The validator and the embeddings runner import TensorFlow only to ask whether a model is a `tf.Module`; with this
module in its place the answer is no, and everything they do with PyTorch models is unchanged. The launcher
(`hear_audiomamba.evaluate.heartools`) puts it into `sys.modules` when no TensorFlow is installed, and
`tools/heareval/install.sh` copies this file into the environment of the HEAR tools as `tensorflow.py`.
"""

from __future__ import annotations

__version__ = "0+hear_audiomamba.standin"


class Module:
    """The class that TensorFlow models derive from; nothing here is an instance of it."""


class test:
    """The part of `tensorflow.test` that the embeddings runner asks before it starts."""

    @staticmethod
    def is_gpu_available(cuda_only: bool = False, min_cuda_compute_capability: object = None) -> bool:
        """Say yes, because the question only guards against a TensorFlow that sees fewer GPUs than PyTorch."""
        return True

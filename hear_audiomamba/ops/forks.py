"""Models in forked processes."""

from __future__ import annotations

import functools
import os
import sys

import torch


@functools.cache
def one_thread_after_fork() -> None:
    """Let torch compute in processes that are forked from this one.

    GNU's OpenMP, which torch uses on Linux, waits for ever for threads that a fork did not copy, as soon
    as a forked process computes with more than one. So such processes get one thread, as torch's own data
    loaders do; one that computed in the parent before the fork would hang otherwise.
    """
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))

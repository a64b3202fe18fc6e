"""Where the files that ship beside the code are: weights, recipes, suites, the list of tasks."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def bundled_path(name: str) -> Path:
    """Return the path of a bundled file or folder.

    Args:
        name: "weights", "eval_configs", "pretrain_configs", "finetune_configs" or "tasks.txt".

    Returns:
        Its place inside an installed package, or at the top of a source checkout. It need not exist.
    """
    installed = _PACKAGE / "bundled" / name
    return installed if installed.exists() else _PACKAGE.parent / name

"""What a run tells while it goes: a JSON line for every event, TensorBoard, W&B, a progress bar."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

from ...errors import require
from ...io.drawing import require_drawing
from ...io.files import write_text
from ..config import PretrainConfig, RunConfig


def check_packages(config: RunConfig) -> None:
    """Refuse a run that is to be shown in ways whose packages are not installed.

    Raises:
        MissingPackageError: says how to install it.
        ConfigError: matplotlib does not start.
    """
    if config.tensorboard:
        require("tensorboard", "run.tensorboard", "tensorboard")
    if config.wandb is not None:
        require("wandb", "run.wandb", "wandb")
    if config.picture_every:
        require_drawing("run.picture_every", "matplotlib")


class RunLog:
    """Writes the events of a run to `log.jsonl` and to whatever else is asked for.

    Args:
        out: the run's folder.
        config: of the run.
        first_step: steps done before; lines of later steps, which a killed run may have left, are dropped.
        steps: of the whole run.
    """

    def __init__(self, out: Path, config: PretrainConfig, first_step: int, steps: int) -> None:
        self.path = out / "log.jsonl"
        if self.path.exists():
            _drop_after(self.path, first_step)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)
        self._board = self._wandb = self._bar = None
        run = config.run
        if run.tensorboard or (run.tensorboard is None and importlib.util.find_spec("tensorboard")):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)
        if run.wandb is not None:
            import wandb

            self._wandb = wandb.init(project=run.wandb, dir=str(out), config=config.to_dict(), resume="allow")
        if run.progress:
            from tqdm import tqdm

            self._bar = tqdm(total=steps, initial=first_step, unit="step", dynamic_ncols=True, disable=None)

    def event(self, event: str, step: int, **values: Any) -> None:
        """Write one line; numbers also go to TensorBoard and W&B under `event/name`."""
        # With float16 the first gradients overflow, until the loss scale fits; JSON knows no infinity.
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        line = {"event": event, "step": step, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        numbers = {f"{event}/{k}": v for k, v in values.items() if isinstance(v, (int, float))}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
        if self._wandb is not None and numbers:
            self._wandb.log(numbers, step=step)

    def progress(self, step: int, loss: float, lr: float, hours_per_second: float) -> None:
        """Move the bar to `step` and show how the training goes."""
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {loss:.4f}, lr {lr:.2e}, {hours_per_second:.3g} audio h/s", refresh=False
            )
            self._bar.update(step - self._bar.n)

    def say(self, text: str) -> None:
        """Show a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)

    def picture(self, path: Path, step: int) -> None:
        """Send a picture that lies in the run's folder on to TensorBoard and W&B."""
        if self._board is not None:
            import matplotlib.image

            self._board.add_image(
                "reconstruction", matplotlib.image.imread(path)[..., :3], step, dataformats="HWC"
            )
        if self._wandb is not None:
            import wandb

            self._wandb.log({"reconstruction": wandb.Image(str(path))}, step=step)

    def close(self) -> None:
        """Write out and close everything."""
        self._file.close()
        for part in (self._bar, self._board):
            if part is not None:
                part.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Return the events of a `log.jsonl`, without a last line that a kill cut short."""
    events = []
    for line in Path(path).read_bytes().splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _drop_after(path: Path, step: int) -> None:
    kept = [event for event in read_log(path) if event.get("step", 0) <= step]
    write_text(path, "".join(json.dumps(event) + "\n" for event in kept))

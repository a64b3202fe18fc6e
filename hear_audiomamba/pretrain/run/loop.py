"""The training loop."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...config.yaml_text import yaml_text
from ...errors import AudioMambaError, CheckpointError, ConfigError, counted
from ...io.files import make_folder, write_text
from ..config import PretrainConfig
from ..data.batches import training_batches
from ..objectives.finetune import Finetuning, LinearHead
from ..settings import changed_settings
from . import distributed
from .build import build, check_disk
from .checkpoint import Checkpoints, provenance
from .evaluation import Evaluation, Forward
from .head_start import start_head
from .memory import choose_micro_batch, clips_of_process, freeze_unused
from .optim import Schedule
from .pictures import course_picture
from .runlog import RunLog, check_packages, read_log
from .step import Stepper, add_to
from .stopping import StopRequest

logger = logging.getLogger(__name__)


class Diverged(AudioMambaError, RuntimeError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        out: its folder.
        step: steps done.
        finished: these are all, or more did not help (`run.patience`).
        loss: the last mean loss; None for a run that was finished before it was resumed.
        scores: of a fine-tuned model on its test split; empty where there is none.
        head: the classes of a fine-tuned model, if they are linear in the scene embedding and the run is finished.
    """

    out: Path
    step: int
    finished: bool
    loss: float | None
    scores: dict[str, float]
    head: LinearHead | None = None


def pretrain(config: PretrainConfig, resume: bool = False) -> Outcome:
    """Train a model.

    Args:
        config: the run; see `read_config`.
        resume: continue from the newest checkpoint in `run.out`, or start if there is none.

    Returns:
        How it ended. `out/model.safetensors` is the model, `out/log.jsonl` the course of the run.

    Raises:
        ConfigError, DataError, CheckpointError, VariantError: what does not fit, before any work.
        Diverged: the loss became NaN or infinite.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with distributed.process_group(config.device) as device:
        return Run(config, device, resume).train()


class Run:
    """A run in one process: built, restored if asked for, and ready for its next step.

    Args:
        config: of the run.
        device: where to train.
        resume: see `pretrain`.
    """

    def __init__(self, config: PretrainConfig, device: torch.device, resume: bool) -> None:
        self.config, self.device = config, device
        self.main = distributed.rank() == 0
        self.out = Path(config.run.out).expanduser()
        self.checkpoints = Checkpoints(self.out, config.run.keep)
        if self.checkpoints.steps() and not resume:
            raise ConfigError(
                f"run.out: {self.out} already holds a run; continue with --resume or give another folder"
            )
        check_packages(config.run)
        clips_of_process(config)
        self.parts = build(config)
        self.objective = self.parts.objective.to(device).train()
        check_disk(config, self.objective)
        self.schedule = Schedule(config.optim, len(self.parts.train) / config.optim.batch)
        self.forward = Forward(config, self.parts, device)
        self.finetuning = isinstance(self.objective, Finetuning)
        freeze_unused(self.parts, self.forward)
        self.stepper = Stepper(config, self.objective, self.forward, self.schedule)
        self.step, self.seconds = 0, 0.0
        self.waited = 0  # validations since the best score
        self.best: float | None = None
        before = self._restore() if resume and self.checkpoints.steps() else None
        self.micro = choose_micro_batch(config, self.parts, self.forward, before)
        average = self.stepper.average
        self.evaluation = Evaluation(config, self.parts, self.forward, average, self.micro, probing=self.main)
        if self.step == 0:
            start_head(config, self.parts, self.forward, self.micro)
            if average is not None:
                average.load(dict(self.objective.named_parameters()))
        self.stepper.join()
        self.log: RunLog | None = None
        # One criterion for the whole run: a validation loss and a probe's score cannot be compared.
        self._criterion = "probe" if config.probe.every else "score" if self.finetuning else "valid_loss"
        self._valid_every = config.run.valid_every
        if self.finetuning and not self._valid_every:
            self._valid_every = max(1, round(self.schedule.steps_per_epoch))
        self._skipped: set[str] = set()

    def train(self) -> Outcome:
        """Train from the current step to the last one, or until told to stop."""
        total = self.schedule.steps
        if self.main:
            make_folder(self.out)
            text = yaml_text(self.config.to_dict())
            write_text(self.out / "config.yaml", text)
            self.log = RunLog(self.out, self.config, self.step, total)
        loss, stop = None, StopRequest(self.config.run.max_seconds)
        try:
            with stop.on_signals():
                self._announce(total)
                if self.step == 0 and self.config.probe.tasks_dir and self.config.probe.at_start:
                    self._probe()
                if self.step == 0 and self.finetuning and self.config.finetune.head_start == "probe":
                    self._keep_start()
                if not self._out_of_patience():
                    loss = self._loop(total, stop)
                finished = self.step >= total or self._out_of_patience()
                scores = self._finish() if finished and self.finetuning else {}
            self._event("end", reason="finished" if finished else stop.reason, seconds=self.seconds)
        finally:
            if self.log is not None:
                self.log.close()
        head = self._scene_head() if finished else None
        return Outcome(self.out, self.step, finished, loss, scores, head)

    def _loop(self, total: int, stop: StopRequest) -> float | None:
        run, probe_every = self.config.run, self.config.probe.every
        batches = iter(
            training_batches(
                self.parts.train, batch=self.config.optim.batch, micro=self.micro,
                rank=distributed.rank(), world=distributed.world_size(), steps=range(self.step, total),
                workers=self.config.data.workers, device=self.device,
            )
        )  # fmt: skip
        begin = mark = time.monotonic()
        before = self.seconds
        sums: dict[str, Tensor] = {}
        since, loss = 0, None
        while self.step < total:
            losses, skipped = self.stepper.step(self.step, batches, self.micro)
            add_to(sums, losses)
            self._count_skipped(skipped)
            self.step += 1
            since += 1
            self.seconds = round(before + time.monotonic() - begin, 3)
            ends = self.step == total or stop.asked()
            if ends or _due(run.log_every, self.step):
                loss = self._log(sums, since, time.monotonic() - mark)
                sums, since, mark = {}, 0, time.monotonic()
            if not ends and not self._anything_due():
                continue
            scores: dict[str, float] = {}  # by which a checkpoint may be the best; higher is better
            if self._valid_every and (ends or _due(self._valid_every, self.step)):
                scores.update(self._validate())
            if _due(probe_every, self.step) or (self.step == total and self.config.probe.tasks_dir):
                scores["probe"] = self._probe()
            if _due(run.picture_every, self.step):
                self._draw()
            if self._criterion in scores:
                self._note(scores[self._criterion])
            if ends or scores or _due(run.checkpoint_every, self.step):
                self._save(scores.get(self._criterion))
            mark = time.monotonic()
            if ends or self._out_of_patience():
                break
        return loss

    def _anything_due(self) -> bool:
        run = self.config.run
        intervals = (self._valid_every, run.picture_every, run.checkpoint_every, self.config.probe.every)
        return any(_due(every, self.step) for every in intervals)

    def _log(self, sums: dict[str, Tensor], since: int, seconds: float) -> float:
        """Log the means since the last time; return the mean loss."""
        names = sorted(sums)
        values = distributed.mean(torch.stack([sums[name] for name in names]) / since).tolist()
        means = dict(zip(names, values))
        loss = float(means["loss"])
        if loss != loss or abs(loss) == float("inf"):
            raise Diverged(
                f"the loss is {loss} at step {self.step}: try a lower optim.lr, optim.clip_norm=1 or "
                "precision=float32; the last checkpoint is kept"
            )
        lr = self.schedule.lr(self.step - 1)
        speed = since * self.config.optim.batch / max(seconds, 1e-9)
        hours = speed * self.config.data.crop_seconds / 3600
        epoch = round(self.step * self.config.optim.batch / len(self.parts.train), 4)
        self._event(
            "train", epoch=epoch, **means, lr=lr, clips_per_second=round(speed, 3),
            audio_hours_per_second=hours, seconds=self.seconds, skipped=len(self._skipped),
        )  # fmt: skip
        if self.log is not None:
            self.log.progress(self.step, loss, lr, hours)
        return loss

    def _validate(self) -> dict[str, float]:
        """Return the criteria that validation gives, higher is better, the same in every process."""
        valid = self.parts.valid
        if self.finetuning and valid is not None:
            losses = self.evaluation.label_scores(valid)
        else:
            losses = self.evaluation.valid_losses()
        losses = distributed.from_main(losses)
        self._event("valid", **losses)
        self._say(f"step {self.step}: valid " + ", ".join(f"{k} {v:.4f}" for k, v in losses.items()))
        found = {"valid_loss": -losses["loss"]}
        if self.finetuning:
            name = next(name for name in losses if name != "loss")
            # Few clips have few scores; of two equal ones, that with the lower loss is the better.
            found["score"] = losses[name] - 1e-6 * min(losses["loss"], 1e3)
        return found

    def _keep_start(self) -> None:
        """Keep the model as it is before the first step: training may never find a better one."""
        score = self._validate()["score"]
        self._note(score)
        self._save(score)

    def _note(self, score: float) -> None:
        """Count validations since the best one."""
        self.waited = 0 if self.best is None or score > self.best else self.waited + 1
        self.best = score if self.best is None else max(self.best, score)

    def _out_of_patience(self) -> bool:
        return 0 < self.config.run.patience <= self.waited

    def _finish(self) -> dict[str, float]:
        """Leave the best model of a fine-tuning run, and test it where there is a test split."""
        best = self.checkpoints.best() if self.main else None
        step = distributed.from_main(best["step"] if best is not None else self.step)
        if self.main:
            self.checkpoints.publish(step)
        self.checkpoints.load_kept(step, self.objective)
        if self.parts.test is None:
            return {}
        self.evaluation.average = None  # what was loaded is the average already
        scores = distributed.from_main(self.evaluation.label_scores(self.parts.test))
        self._event("test", best_step=step, clips=len(self.parts.test.clips), **scores)
        return scores

    def _scene_head(self) -> LinearHead | None:
        """Return the head of the best model of a fine-tuning run; None where it is the model's own."""
        if not isinstance(self.objective, Finetuning) or self.objective.head is None:
            return None
        names = tuple(self.parts.train.clips.label_names)
        return self.objective.head.numbers(self.objective.kind, names)

    def _probe(self) -> float:
        """Return the mean of the probe's scores, the same in every process."""
        scores = distributed.from_main(self.evaluation.probe_scores())
        mean = sum(scores.values()) / len(scores)
        self._event("probe", mean=mean, **scores)
        self._say(f"step {self.step}: probe " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
        return mean

    def _draw(self) -> None:
        path = self.out / "pictures" / f"step-{self.step:08d}.png"
        if self.log is not None and self.evaluation.draw(path):
            self.log.picture(path, self.step)
            course_picture(read_log(self.log.path), self.out / "pictures" / "course.png")

    def _save(self, score: float | None) -> None:
        """Write a checkpoint; `score` is that of the run's criterion, None where it was not measured."""
        if self.main:
            config = self.config.to_dict()
            hours = self.step * self.config.optim.batch * self.config.data.crop_seconds / 3600
            notes = {
                "run": config,
                "versions": provenance(),
                "audio_hours_seen": round(hours, 3),
                "training_seconds": round(self.seconds),
            }
            state = {
                "config": config,
                "scaler": self.stepper.scaler.state_dict(),
                "seconds": self.seconds,
                "micro_batch": self.micro,
                "waited": self.waited,
                "best": self.best,
            }
            path = self.checkpoints.save(
                self.step,
                self.objective,
                self.stepper.optimizer,
                self.stepper.average,
                self.parts.model,
                notes,
                state,
            )
            if score is not None:
                self.checkpoints.note_metric(self.step, self._criterion, score)
            self.checkpoints.remove_old()
            self.checkpoints.publish(self.step)
            self._event("checkpoint", path=str(path.relative_to(self.out)))
        distributed.barrier()

    def _restore(self) -> int | None:
        """Continue from the newest checkpoint; return the micro-batch it was made with."""
        step = self.checkpoints.steps()[-1]
        stored = self.checkpoints.facts(step)
        now = self.config.to_dict()
        for key in ("recipe", "model", "model_options"):
            if stored["config"][key] != now[key]:
                raise CheckpointError(
                    f"{self.out} is a run with {key} {stored['config'][key]!r}, not {now[key]!r}"
                )
        changed = changed_settings(stored["config"], now)
        if changed and self.main:
            logger.warning("resumed with other settings, so not the same run: %s", ", ".join(changed))
        self.checkpoints.load(step, self.objective, self.stepper.optimizer, self.stepper.average)
        self.stepper.scaler.load_state_dict(stored["scaler"])
        self.step, self.seconds = step, stored["seconds"]
        self.waited, self.best = stored.get("waited", 0), stored.get("best")
        return stored.get("micro_batch")

    def _announce(self, total: int) -> None:
        parameters = sum(p.numel() for p in self.objective.parameters() if p.requires_grad)
        train, batch = self.parts.train, self.config.optim.batch
        self._event(
            "start", steps=total, clips=len(train.clips), crops_per_epoch=len(train), parameters=parameters,
            batch=batch, micro_batch=self.micro, peak_lr=self.schedule.peak, device=self.device.type,
            threads=torch.get_num_threads(), processes=distributed.world_size(),
            versions=provenance() if self.main else None,
        )  # fmt: skip
        self._say(
            f"{self.parts.model.variant}: {parameters / 1e6:.2f} M parameters, {counted(len(train.clips), 'clip')}, "
            f"steps {self.step} to {total} of {counted(batch, 'crop')}"
        )

    def _count_skipped(self, skipped: list[tuple[str, str]]) -> None:
        for path, reason in skipped:
            if path not in self._skipped:
                self._skipped.add(path)
                self._event("skipped", path=path, reason=reason)

    def _event(self, event: str, **values: Any) -> None:
        if self.log is not None:
            self.log.event(event, self.step, **values)

    def _say(self, text: str) -> None:
        if self.log is not None:
            self.log.say(text)


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0

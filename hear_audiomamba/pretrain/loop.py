"""The training loop."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import AudioMambaError, CheckpointError, ConfigError
from ..ops import use_backend
from . import distributed
from .build import Parts, build, check_disk
from .checkpoint import Checkpoints, provenance, write_text
from .config import PretrainConfig
from .dataset import fixed_batches, training_batches
from .inputs import spec_augment, spectrogram
from .optim import Schedule, WeightAverage, build_optimizer
from .pictures import check_pictures, reconstruction_picture
from .probe import Probe
from .runlog import RunLog, check_loggers

logger = logging.getLogger(__name__)

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What decides which numbers are computed: changed on resume, the run is not the same one.
_NUMERIC = ("recipe", "seed", "precision", "data", "mask", "objective", "distill", "augment", "optim")


class Diverged(AudioMambaError, RuntimeError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, the steps done, whether these are all, and the last mean loss."""

    out: Path
    step: int
    finished: bool
    loss: float


def pretrain(config: PretrainConfig, resume: bool = False) -> Outcome:
    """Train a model.

    Args:
        config: the run; see `read_config`.
        resume: go on from the newest checkpoint in `run.out`, or start if there is none.

    Returns:
        How it ended. `out/model.safetensors` is the model, `out/log.jsonl` the course of the run.

    Raises:
        ConfigError, DataError, CheckpointError, VariantError: what does not fit, before any work.
        Diverged: the loss became NaN or infinite.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with (
        distributed.process_group(config.device) as device,
        use_backend(config.backend) if config.backend else contextlib.nullcontext(),
    ):
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
                f"run.out: {self.out} already holds a run; go on with --resume or give another folder"
            )
        check_loggers(config.run)
        check_pictures(config)
        if config.precision == "float16" and device.type == "cpu":
            raise ConfigError(
                "precision: training in 'float16' needs a GPU; on the CPU use 'bfloat16' or 'float32'"
            )
        self.parts: Parts = build(config)
        self.objective = self.parts.objective.to(device).train()
        self.frontend = self.parts.frontend.to(device)
        check_disk(config, self.objective)
        self.probe = Probe(config.probe, self.frontend, self.parts.model) if self.main else None
        self.schedule = Schedule(config.optim, len(self.parts.train) / config.optim.batch)
        self.optimizer = build_optimizer(self.objective, config.optim)
        ema = config.optim.ema
        self.average = WeightAverage(self.objective.encoder, ema) if ema is not None else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        self.step, self.seconds = 0, 0.0
        self.audio_seconds = 0.0
        if resume and self.checkpoints.steps():
            self._restore()
        self.model: nn.Module = torch.compile(self.objective) if config.compile else self.objective
        if distributed.world_size() > 1:
            ids = [device.index] if device.type == "cuda" else None
            self.model = DistributedDataParallel(self.model, device_ids=ids)
        self._stop: str | None = None
        self._skipped: set[str] = set()

    def train(self) -> Outcome:
        """Train from the current step to the last one, or until told to stop."""
        total = self.schedule.steps
        if self.main:
            self.out.mkdir(parents=True, exist_ok=True)
            write_text(
                self.out / "config.yaml", yaml.safe_dump(_plain(self.config.to_dict()), sort_keys=False)
            )
        self.log = RunLog(self.out, self.config, self.step, total) if self.main else None
        loss = float("nan")
        try:
            with self._signals():
                self._announce(total)
                loss = self._loop(total)
        finally:
            if self.log is not None:
                self.log.close()
        return Outcome(self.out, self.step, self.step >= total, loss)

    def _loop(self, total: int) -> float:
        run = self.config.run
        if self.step == 0 and self.config.probe.at_start:
            self._run_probe()
        batches = iter(
            training_batches(
                self.parts.train, batch=self.config.optim.batch, micro=self.parts.micro,
                rank=distributed.rank(), world=distributed.world_size(), steps=range(self.step, total),
                workers=self.config.data.workers, pin=self.device.type == "cuda",
            )
        )  # fmt: skip
        begin = mark = time.monotonic()
        before = self.seconds
        sums: dict[str, Tensor] = {}
        since = 0
        last = float("nan")
        while self.step < total:
            lr = self.schedule.lr(self.step)
            for name, value in self._train_step(batches, lr).items():
                sums[name] = sums[name] + value if name in sums else value
            self.step += 1
            since += 1
            self.seconds = before + time.monotonic() - begin
            ends = self.step == total or self._must_stop(begin)
            if ends or (run.log_every and self.step % run.log_every == 0):
                last = self._log_step(sums, since, lr, time.monotonic() - mark)
                sums, since, mark = {}, 0, time.monotonic()
            if _due(run.picture_every, self.step):
                self._draw_picture()
            metric = None
            if self.parts.valid is not None and (
                _due(run.valid_every, self.step) or (ends and run.valid_every)
            ):
                metric = ("valid_loss", -self._validate())
            if _due(self.config.probe.every, self.step) or (
                self.step == total and self.config.probe.tasks_dir
            ):
                score = self._run_probe()
                metric = ("probe", score) if score is not None else metric
            if ends or metric or _due(run.checkpoint_every, self.step):
                self._save(metric)
                mark = time.monotonic()
            if ends:
                break
        if self.main and self.log is not None:
            end = "finished" if self.step >= total else self._stop or "stopped"
            self.log.event("end", self.step, reason=end, seconds=round(self.seconds, 1))
        return last

    def _train_step(self, batches: Iterator[dict[str, Any]], lr: float) -> dict[str, Tensor]:
        """Do one step of the optimiser; return the means of its losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # Whatever draws from torch's own generator (stochastic depth) depends on the step alone.
        torch.manual_seed(hash((self.config.seed, self.step, distributed.rank())) % 2**63)
        sums: dict[str, Tensor] = {}
        parts = self.parts.accumulation
        for part in range(parts):
            batch = self._to_device(next(batches))
            wait = isinstance(self.model, DistributedDataParallel) and part < parts - 1
            with self.model.no_sync() if wait else contextlib.nullcontext():
                losses = self._losses(batch, self.model)
                self.scaler.scale(losses["loss"] / parts).backward()
            for name, value in losses.items():
                value = value.detach().float() / parts
                sums[name] = sums[name] + value if name in sums else value
        self.scaler.unscale_(self.optimizer)
        sums["grad_norm"] = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.objective.encoder, self.step)
        return sums

    def _losses(self, batch: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
        features = spectrogram(self.frontend, batch, self.parts.n_frames)
        augment = self.config.augment
        if model.training and (augment.spec_time or augment.spec_freq):
            features = spec_augment(features, batch["chance"], augment)
        with self._autocast():
            return model(features, batch)

    def _autocast(self) -> contextlib.AbstractContextManager:
        dtype = _PRECISIONS[self.config.precision]
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()

    def _clip(self) -> Tensor:
        gradients = [p.grad for p in self.objective.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        limit = self.config.optim.clip_norm
        if limit is not None:
            torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def _to_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        for path, reason in batch.pop("skipped"):
            if path not in self._skipped:
                self._skipped.add(path)
                if self.log is not None:
                    self.log.event("skipped", self.step, path=path, reason=reason)
        return {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}

    def _log_step(self, sums: dict[str, Tensor], since: int, lr: float, seconds: float) -> float:
        names = sorted(sums)
        values = distributed.mean(torch.stack([sums[name] for name in names]) / since).tolist()
        means = dict(zip(names, values))
        loss = means["loss"]
        if loss != loss or abs(loss) == float("inf"):
            raise Diverged(
                f"the loss is {loss} at step {self.step}: try a lower optim.lr, optim.clip_norm=1 or "
                "precision=float32; the last checkpoint is kept"
            )
        if self.log is None:
            return loss
        clips = since * self.config.optim.batch
        hours = clips * self.config.data.crop_seconds / 3600 / max(seconds, 1e-9)
        epoch = self.step * self.config.optim.batch / len(self.parts.train)
        self.log.event(
            "train", self.step, epoch=round(epoch, 4), **means, lr=lr, clips_per_second=clips / max(seconds, 1e-9),
            audio_hours_per_second=hours, seconds=round(self.seconds, 2), skipped=len(self._skipped),
        )  # fmt: skip
        self.log.progress(self.step, loss, lr, hours)
        return loss

    @torch.no_grad()
    def _validate(self) -> float:
        """Return the mean loss of fixed crops of the valid split, with the weights that are kept."""
        loader = fixed_batches(self.parts.valid, self.config.run.valid_clips, self.parts.micro, 0)
        total, clips = 0.0, 0
        parts: dict[str, float] = {}
        with self._kept_weights():
            for batch in loader:
                batch = self._to_device(batch)
                losses = self._losses(batch, self.objective)
                n = len(batch["chance"])
                clips += n
                for name, value in losses.items():
                    parts[name] = parts.get(name, 0.0) + n * float(value)
        means = {name: value / clips for name, value in parts.items()}
        if self.log is not None:
            self.log.event("valid", self.step, **means, clips=clips)
            self.log.say(f"step {self.step}: valid loss {means['loss']:.4f}")
        total = means["loss"]
        return total

    @contextlib.contextmanager
    def _kept_weights(self) -> Iterator[None]:
        """Evaluate with the weights a checkpoint's model file gets: the average, if there is one."""
        encoder = self.objective.encoder
        self.objective.eval()
        live = None
        if self.average is not None:
            live = {name: p.detach().clone() for name, p in encoder.named_parameters()}
            with torch.no_grad():
                for name, parameter in encoder.named_parameters():
                    parameter.copy_(self.average.values[name])
        try:
            yield
        finally:
            if live is not None:
                with torch.no_grad():
                    for name, parameter in encoder.named_parameters():
                        parameter.copy_(live[name])
            self.objective.train()

    def _run_probe(self) -> float | None:
        score = None
        if self.probe is not None and self.probe.tasks:
            with self._kept_weights():
                scores = self.probe.scores(self.objective.encoder)
            score = sum(scores.values()) / len(scores)
            self.log.event("probe", self.step, mean=score, **scores)
            self.log.say(f"step {self.step}: probe " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
        distributed.barrier()
        return score

    @torch.no_grad()
    def _draw_picture(self) -> None:
        if not self.main or self.log is None:
            return
        source = self.parts.valid or self.parts.train
        batch = self._to_device(next(iter(fixed_batches(source, 1, 1, 0))))
        features = spectrogram(self.frontend, batch, self.parts.n_frames)
        with self._kept_weights(), self._autocast():
            picture = self.objective.picture(features, batch)
        if picture is not None:
            path = self.out / "pictures" / f"step-{self.step:08d}.png"
            reconstruction_picture(picture, self.objective.encoder.patch_embed, features.shape[1:], path)
            self.log.picture(path, self.step)

    def _save(self, metric: tuple[str, float] | None) -> None:
        if self.main:
            notes = {
                "recipe": self.config.to_dict(),
                "versions": provenance(),
                "audio_hours_seen": self._hours_seen(),
                "training_seconds": round(self.seconds),
            }
            state = {
                "config": self.config.to_dict(),
                "scaler": self.scaler.state_dict(),
                "seconds": self.seconds,
                "world_size": distributed.world_size(),
            }
            path = self.checkpoints.save(
                self.step, self.objective, self.optimizer, self.average, self.parts.model, notes, state
            )
            best = self.checkpoints.best()
            if metric is not None and (
                best is None or best["metric"] != metric[0] or metric[1] > best["value"]
            ):
                self.checkpoints.mark_best(self.step, *metric)
            self.checkpoints.remove_old()
            _copy(path / "model.safetensors", self.out / "model.safetensors")
            self.log.event("checkpoint", self.step, path=str(path.relative_to(self.out)))
        distributed.barrier()

    def _restore(self) -> None:
        step = self.checkpoints.steps()[-1]
        state = self.checkpoints.load(step, self.objective, self.optimizer, self.average)
        stored, now = state["config"], _plain(self.config.to_dict())
        changed = [
            f"{key}.{name}" if isinstance(now[key], dict) else key
            for key in _NUMERIC
            for name in (now[key] if isinstance(now[key], dict) else [key])
            if (
                stored[key].get(name) != now[key][name]
                if isinstance(now[key], dict)
                else stored[key] != now[key]
            )
            and (key, name) not in {("data", "workers"), ("data", "cache"), ("data", "path")}
        ]
        if stored["recipe"] != now["recipe"]:
            raise CheckpointError(
                f"{self.out} is a run of recipe {stored['recipe']!r}, not {now['recipe']!r}"
            )
        if changed and self.main:
            logger.warning("resumed with other settings, so not the same run: %s", ", ".join(changed))
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = step, state["seconds"]

    def _announce(self, total: int) -> None:
        if self.log is None:
            return
        parameters = sum(p.numel() for p in self.objective.parameters() if p.requires_grad)
        self.log.event(
            "start", self.step, steps=total, clips=len(self.parts.train.clips), crops_per_epoch=len(self.parts.train),
            parameters=parameters, batch=self.config.optim.batch, peak_lr=self.schedule.peak,
            device=str(self.device.type), threads=torch.get_num_threads(), processes=distributed.world_size(),
            versions=provenance(),
        )  # fmt: skip
        self.log.say(
            f"{self.parts.model.variant}: {parameters / 1e6:.2f} M parameters, "
            f"{len(self.parts.train.clips)} clips, steps {self.step} to {total} of {self.config.optim.batch} crops"
        )

    def _hours_seen(self) -> float:
        return round(self.step * self.config.optim.batch * self.config.data.crop_seconds / 3600, 3)

    def _must_stop(self, begin: float) -> bool:
        limit = self.config.run.max_seconds
        if limit is not None and time.monotonic() - begin >= limit:
            self._stop = self._stop or "run.max_seconds"
        return distributed.any_true(self._stop is not None, self.device)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGTERM and SIGINT into a stop after the current step, with a checkpoint."""
        before = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, self._on_signal)
        except ValueError:
            pass  # not in the main thread, where signals do not arrive anyway
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop is not None:
            raise KeyboardInterrupt  # asked twice: at once
        self._stop = signal.Signals(number).name


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _plain(value: Any) -> Any:
    """Return a configuration's dictionary with lists for tuples, as JSON gives it back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _copy(source: Path, target: Path) -> None:
    import shutil

    temporary = target.with_name(f".{target.name}.writing")
    shutil.copyfile(source, temporary)
    temporary.replace(target)

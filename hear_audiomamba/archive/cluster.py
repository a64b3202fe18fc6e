"""The run spread over a Ray cluster: Ray Data moves the units, one model lives in each of its actors."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DataError, one_line, require
from .describe import describe
from .journal import FOLDER, Journal, Unit
from .options import EmbedOptions, Resources
from .progress import Progress, Summary
from .records import Records
from .run import begin, check_libraries, conclude
from .sources import Source
from .units import UnitRunner
from .writers import Product


def embed_on_ray(
    sources: Sequence[Source],
    model_arguments: dict[str, Any],
    out: str | Path,
    options: EmbedOptions,
    resources: Resources,
    address: str,
    *,
    n_actors: int | None = None,
    actor_options: dict[str, Any] | None = None,
    product: Product | None = None,
) -> Summary:
    """Embed sources on a Ray cluster; the same files come out as from `embed_sources`.

    Inputs and output folder must be on a file system that all nodes share. A worker that dies is
    replaced and its units are done again; a run that is stopped continues with the same call.

    Args:
        sources: what `find_sources` returned; paths are made absolute.
        model_arguments: keywords of `load_model`; each actor loads its own.
        out: output folder.
        options: what to make.
        resources: `workers` is per actor; `share` is not for Ray.
        address: of the cluster ("auto", "ray://host:10001"), or "local" to start one on this machine.
        n_actors: models at once; by default one for each GPU of the cluster, else one for each CPU.
        actor_options: resources of an actor, for instance `{"num_gpus": 0.5}`.
        product: what to write of each clip; None for its embeddings.

    Returns:
        What was done.

    Raises:
        MissingPackageError: Ray is not installed.
        DataError: the cluster is not reached, or the folder is in use or holds something else.
    """
    ray = _connect(address)
    from ..hear import load_model

    check_libraries(options, product)
    out = Path(out).absolute()
    model = load_model(**{**model_arguments, "device": "cpu"})  # for its description only
    provenance = describe(model, options, product)
    settings = json.loads(provenance.to_json())
    progress = Progress(len(sources))
    with Journal(out, settings, overwrite=resources.overwrite) as journal:
        sources = [replace(source, path=str(Path(source.path).absolute())) for source in sources]
        units, todo = begin(journal, sources, options, resources, product)
        progress.start(units, todo, journal.records)
        if todo:
            work = (model_arguments, str(out), options, resources, settings, product)
            _run(ray, todo, work, n_actors, actor_options)
        return conclude(journal, units, progress, model, settings)


def _run(
    ray: Any,
    todo: Sequence[Unit],
    work: tuple[Any, ...],
    n_actors: int | None,
    actor_options: dict[str, Any] | None,
) -> None:
    from ray import data

    n_gpus = int(ray.cluster_resources().get("GPU", 0))
    n_actors = n_actors or max(1, min(len(todo), n_gpus or int(ray.cluster_resources().get("CPU", 1))))
    actor_options = actor_options or ({"num_gpus": 1} if n_gpus else {"num_cpus": 1})
    # Ray Data repeats the work of an actor that dies; a unit done twice gives the same files.
    context = data.DataContext.get_current()
    context.max_errored_blocks = 0
    rows = [
        {"unit": json.dumps({"unit": u.number, "sources": [s.to_dict() for s in u.sources]})} for u in todo
    ]
    dataset = data.from_items(rows, override_num_blocks=len(rows))
    done = dataset.map_batches(
        _Actor,
        fn_constructor_args=work,
        batch_size=1,
        concurrency=n_actors,
        max_restarts=-1,
        max_task_retries=-1,
        **actor_options,
    )
    done.materialize()


class _Actor:
    """A model on a worker of the cluster."""

    def __init__(
        self, model_arguments: dict[str, Any], out: str, options: EmbedOptions, resources: Resources,
        settings: dict[str, Any], product: Product | None,
    ) -> None:  # fmt: skip
        from ..hear import load_model

        self._model = load_model(**model_arguments)
        self._provenance = describe(self._model, options, product)
        if json.loads(self._provenance.to_json()) != settings:
            raise DataError(
                "a worker's model differs from the one that planned the run: same files on all nodes?"
            )
        self._options, self._out, self._product = options, Path(out), product
        self._resources = replace(resources, share=None, devices=(), overwrite=False)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for text in batch["unit"]:
            row = json.loads(str(text))
            unit = Unit(row["unit"], tuple(Source(**source) for source in row["sources"]))
            # The process that planned the run holds the lock. This folder is the actor's alone: another
            # one, believed dead, may still be at the same unit.
            journal = self._out / FOLDER
            tmp = journal / "tmp-all" / f"{unit.number:05d}-{secrets.token_hex(6)}"
            records = Records(self._out, journal / "units", tmp / "parts", tmp)
            tmp.mkdir(parents=True)
            try:
                with UnitRunner(
                    self._model, self._options, self._provenance, self._resources, self._product
                ) as runner:
                    runner.run([unit], records, tmp, Progress(len(unit.sources)))
            finally:
                shutil.rmtree(tmp, ignore_errors=True)
        return batch


def _connect(address: str) -> Any:
    require("ray", "--ray", "hear_audiomamba[scale]")
    import ray

    if not ray.is_initialized():
        _check_reachable(address)
        try:
            ray.init(address=None if address == "local" else address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise DataError(f"{address}: no Ray cluster there: {one_line(error)}") from None
    return ray


def _check_reachable(address: str) -> None:
    """Ask once whether anybody listens there: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{address}: no Ray cluster there: {error}") from None

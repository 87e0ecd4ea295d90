"""The training loop, one for all networks: resumable, seeded, watched.

ignite runs it. What a step sees depends on (seed, epoch, step) alone, and a checkpoint is
written after each epoch, so a run that was killed goes on as if nothing had happened. Several
processes share a step: each draws parts of its batch, and their gradients are added up.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EpochOutputStore, ProgressBar, TensorboardLogger
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from clickseg.atomic import replacing
from clickseg.config import FitConfig
from clickseg.precision import has_bfloat16
from clickseg.training import processes
from clickseg.training.draws import Place, drawn
from clickseg.training.tracking import mlflow_logger

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Epoch:
    """An epoch that is over: the ``number``-th of ``epochs`` of the network ``name``.

    ``validation``: lower is better; the mean loss where there is nothing to validate on.
    """

    name: str
    number: int
    epochs: int
    loss: float
    validation: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """Where a training happens and what it is called.

    ``seconds``: how long each network was trained, by name, before a run was resumed included.
    Runs made of a run by ``replace`` share it. ``watch`` is told of each epoch once it is saved.
    ``parts``: batches a step, whose losses are averaged; at least one a process.
    ``workers``: processes that draw batches ahead.
    """

    folder: Path
    name: str
    seed: int
    device: str = "cpu"
    seconds: dict[str, float] = field(default_factory=dict)
    watch: Callable[[Epoch], None] | None = None
    parts: int = 1
    workers: int = 0


def fit(
    network: Network,
    config: FitConfig,
    run: Run,
    draw: Callable[[np.random.Generator], Batch],
    loss_of: Callable[[Network, Batch], Tensor],
    validate: Callable[[Network], float] | None = None,
) -> Network:
    """Train a network and return it, in evaluation mode.

    Args:
        network: what to train; changed in place.
        config: how long and how fast.
        run: where its checkpoint and TensorBoard log go.
        draw: makes a batch from a generator that is seeded by epoch and step; see ``drawn``.
        loss_of: the loss of a batch.
        validate: a number per epoch, lower is better; logged, and used by ``plateau``.
    """
    network.to(run.device).train()
    optimizer = _optimizer(network, config)
    scheduler = _scheduler(optimizer, config)
    average = (
        AveragedModel(network, multi_avg_fn=_running_mean(config.average), use_buffers=True)
        if config.average
        else None
    )
    device_type = torch.device(run.device).type
    # A CPU without instructions for it would take minutes a step.
    is_short = config.bfloat16 and has_bfloat16(run.device)
    parts = max(run.parts, processes.count())
    mine = range(processes.number(), parts, processes.count())

    def step(_engine: Engine, _number: int) -> float:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for _ in mine:
            batch = next(batches)
            with torch.autocast(device_type, torch.bfloat16, enabled=is_short):
                loss = loss_of(network, batch) / parts
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        processes.sum_gradients(network.parameters())
        nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        if average is not None:
            average.update_parameters(network)
        if config.schedule == "poly":
            scheduler.step()
        return processes.sum_values(total, run.device)

    trainer = Engine(step)
    kept: dict[str, Any] = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    if average is not None:
        kept["average"] = average
    checkpoint = run.folder / f"{run.name}.checkpoint.pt"
    done = _resume(checkpoint, kept, run)
    before = run.seconds[run.name] = seconds_in(checkpoint)
    places = [
        Place(run.seed, *place)
        for place in itertools.product(
            range(done + 1, config.epochs + 1), range(config.steps_per_epoch), mine
        )
    ]
    batches = drawn(places, draw, run.workers)
    losses = EpochOutputStore()
    losses.attach(trainer, "losses")
    started = time.monotonic()

    @trainer.on(Events.STARTED)  # type: ignore[untyped-decorator]
    def _start_after_the_checkpoint(engine: Engine) -> None:
        engine.state.epoch = done
        engine.state.iteration = done * config.steps_per_epoch

    @trainer.on(Events.EPOCH_COMPLETED)  # type: ignore[untyped-decorator]
    def _close_epoch(engine: Engine) -> None:
        loss = float(np.mean(engine.state.losses))
        best: Any = network if average is None else average.module
        for one in dict.fromkeys((network, best)):
            processes.average_buffers(one)
        value = loss
        if validate is not None:
            value = processes.by_first(lambda: validate(best.eval()))
        engine.state.metrics = {"loss": loss, "validation": value}
        if config.schedule == "plateau":
            scheduler.step(value)
        seconds = run.seconds[run.name] = before + time.monotonic() - started
        logger.info(
            "%s epoch %d/%d: loss %.4f, validation %.4f, %.0f s",
            *(run.name, engine.state.epoch, config.epochs, loss, value, seconds),
        )
        if processes.is_first():
            _save(checkpoint, kept, engine.state.epoch, seconds)
        processes.wait()
        if run.watch is not None and processes.is_first():
            epoch = engine.state.epoch
            run.watch(Epoch(run.name, epoch, config.epochs, loss, value, seconds))

    if processes.is_first():
        ProgressBar(desc=run.name, persist=True).attach(
            trainer, output_transform=lambda loss: {"loss": loss}
        )
    if done < config.epochs:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(batches))
            if processes.is_first():
                board = TensorboardLogger(log_dir=str(run.folder / "log" / run.name))
                # The run of MLflow is closed by whoever opened it: it may have other trainings.
                for log in (stack.enter_context(board), mlflow_logger()):
                    if log is not None:
                        log.attach_output_handler(
                            trainer,
                            Events.EPOCH_COMPLETED,
                            tag=run.name,
                            metric_names=["loss", "validation"],
                        )
            trainer.run(range(config.steps_per_epoch), max_epochs=config.epochs)
    if average is not None:
        network.load_state_dict(average.module.state_dict())
    return network.eval()


def _running_mean(decay: float) -> Callable[..., None]:
    function: Callable[..., None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return function


def _optimizer(network: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), config.rate)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), config.rate, weight_decay=1e-4)
    return torch.optim.SGD(
        network.parameters(), config.rate, momentum=0.99, nesterov=True, weight_decay=3e-5
    )


def _scheduler(optimizer: torch.optim.Optimizer, config: FitConfig) -> Any:
    if config.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
    steps = config.epochs * config.steps_per_epoch
    return torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=steps, power=0.9)


def seconds_in(checkpoint: Path) -> float:
    """Return how long the network of a checkpoint was trained; 0 where there is none."""
    if not checkpoint.is_file():
        return 0.0
    return float(torch.load(checkpoint, map_location="cpu", weights_only=True)["seconds"])


def save_tensors(path: Path, values: Mapping[str, Any]) -> None:
    """Write tensors, and what holds them, whole or not at all.

    Raises:
        OSError: if the disk is full; torch's own writer does not say so.
    """
    buffer = io.BytesIO()
    torch.save(values, buffer)
    with replacing(path) as part:
        part.write_bytes(buffer.getbuffer())


def _save(path: Path, parts: dict[str, Any], epoch: int, seconds: float) -> None:
    state: dict[str, Any] = {"epoch": epoch, "seconds": seconds}
    state |= {key: value.state_dict() for key, value in parts.items()}
    save_tensors(path, state)


def _resume(path: Path, parts: dict[str, Any], run: Run) -> int:
    """Load a checkpoint if there is one; return how many epochs are done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return 0
    saved = torch.load(path, map_location=run.device, weights_only=True)
    for key, value in parts.items():
        value.load_state_dict(saved[key])
    logger.info("%s goes on after epoch %d", run.name, saved["epoch"])
    return int(saved["epoch"])

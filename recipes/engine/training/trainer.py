"""Training one network with one seed, on Lightning; may be killed at any moment and continued.

Every random choice follows the seed: epoch e of seed s draws its shuffling, augmentation, dropout and initial
states from generators seeded by (s, e) when it begins, and evaluation from one seeded by s. A run continued
from the checkpoint of its last whole epoch therefore ends, bit for bit, where the uninterrupted one would have
(same machine, versions, number of threads and kind of device). A run divided over several processes
(:mod:`recipes.engine.training.parallel`) is the same run up to rounding, and may be continued with another number of them.
"""

import contextlib
import functools
import statistics
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import lightning
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment

from snn_delay_plugins.functional.adlif import NotFiniteError
from snn_delay_plugins.kernels.eventprop.neuron import TooManySpikes

from ..data.sources import Splits
from ..errors import Diverged, RunError, one_line
from . import machine, parallel
from .batches import batches, evaluation_batch, seed_everything
from .callbacks import KeepState, Report, TensorBoard
from .checkpoints import history_of, remedy_for
from .epochs import chosen_epochs
from .hardware import ONE_PROCESS, Hardware
from .module import ADVICE, Training, is_finite
from .networks import check_network, count_parameters
from .objectives import Objective
from .quiet import interruptible, quiet


def train(
    build: Callable[[], Objective],
    splits: Splits,
    seed: int,
    folder: Path,
    report: Callable[[float, dict | None], None] = lambda share, epoch: None,
    *,
    hardware: Hardware = ONE_PROCESS,
    tensorboard: bool = False,
    reload: Callable[[], Splits] | None = None,
) -> dict:
    """Train one network; continue from ``folder/last.ckpt`` where there is one. Returns the result as plain
    JSON values.

    ``build`` makes the network and its objective after the seed has been set; the objective's ``hyper`` says
    how many ``epochs`` and of which ``batch_size``, which is divided among ``hardware.processes``. ``report`` is
    told of the progress. Several processes get ``build`` and ``reload`` (which loads the splits anew; default:
    ``splits`` itself) by pickle. Raises :class:`Diverged`, :class:`RunError` for a checkpoint that cannot be continued, and
    what :meth:`Hardware.check` raises.
    """
    if hardware.processes == 1:
        return _train(report, build, lambda: splits, seed, folder, hardware, tensorboard)
    objective = build()
    check_network(objective.network)
    hardware.check(splits, objective.hyper.batch_size)
    arguments = (build, reload or functools.partial(_same, splits), seed, folder, hardware, tensorboard)
    return parallel.run(_train, arguments, hardware.processes, report, hardware.group)


def _same(splits: Splits) -> Splits:
    return splits


def _train(
    report: Callable[[float, dict | None], None],
    build: Callable[[], Objective],
    load: Callable[[], Splits],
    seed: int,
    folder: Path,
    hardware: Hardware,
    tensorboard: bool,
) -> dict:
    """In each process."""
    machine.keep_freed_memory()
    splits = load()
    seed_everything(seed)
    objective = build()
    network, hyper, evaluated = objective.network, objective.hyper, splits.evaluated
    module = Training(objective, seed, list(evaluated), splits.criterion)
    checkpoint = folder / "last.ckpt"
    resumed = checkpoint.exists()
    history = history_of(checkpoint, objective, splits.criterion) if resumed else []
    started = datetime.now(UTC)
    callbacks = [KeepState(folder), Report(report, hyper.epochs)]
    if tensorboard:
        callbacks.insert(0, TensorBoard(folder / "tensorboard", first_epoch=len(history) + 1))
    with machine.peak_memory() as memory, quiet(), interruptible(), _explained(module, checkpoint):
        trainer = lightning.Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            strategy="ddp" if hardware.processes > 1 else "auto",
            plugins=LightningEnvironment(),  # processes are ours, also within a job of SLURM's
            use_distributed_sampler=False,  # ours divides each batch
            precision={"32": "32-true"}.get(hardware.precision, hardware.precision),
            max_epochs=hyper.epochs,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        device = trainer.strategy.root_device
        machine.reset_peak_gpu_memory(device)
        share = {"process": trainer.global_rank, "processes": hardware.processes}
        if history and objective.finished(history, splits.criterion):
            module.history = history  # stopped early, and then killed before its result was written
        else:
            trainer.fit(
                module,
                # Lightning tells the sampler the epoch too late on a resume: it has drawn the first batches by then.
                batches(splits.train, hyper.batch_size, shuffle_seed=seed, epoch=len(history), **share),
                [batches(part, evaluation_batch(len(part), hardware.processes), **share) for part in evaluated.values()],
                ckpt_path=checkpoint if resumed else None,
                weights_only=True,
            )
    return {
        "parameters": count_parameters(network),
        "history": module.history,
        "best": chosen_epochs(module.history, splits.criteria),
        "seconds_per_epoch": statistics.median(entry["seconds"] for entry in module.history),
        "peak_memory_mib": parallel.largest(memory.peak, device),
        "memory_before_mib": memory.before,
        "peak_memory_of_run_alone": memory.reset,
        "peak_gpu_memory_mib": machine.peak_gpu_memory(device),
        "resumed": resumed,
        "threads": torch.get_num_threads(),
        "hardware": hardware.describe(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "command": sys.argv,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@contextlib.contextmanager
def _explained(module: Training, checkpoint: Path) -> Iterator[None]:
    """What ends a training without being a bug: Raises :class:`Diverged` where numbers have left every bound, and
    :class:`RunError` where the checkpoint could not be taken over."""
    try:
        yield
    except (Diverged, RunError, OSError):
        raise
    except Exception as error:
        if _left_all_bounds(error) or not is_finite(module.network):
            where = f"in epoch {module.current_epoch + 1} (seed {module.seed})"
            raise Diverged(f"{where} {one_line(error, 400)}; {ADVICE}") from error
        if checkpoint.exists() and not module.begun:
            raise RunError(f"{checkpoint}: cannot be continued ({one_line(error)}); {remedy_for(checkpoint)}") from error
        raise


def _left_all_bounds(error: Exception) -> bool:
    """torch's optimizers have no class of their own for a step that 32 bits do not hold."""
    return isinstance(error, NotFiniteError | TooManySpikes | OverflowError) or "without overflow" in str(error)

"""Training in several processes that equals training in one, up to the order of floating-point sums.

Every process holds its rows of each batch (:class:`Share`). What a sample's result depends on beside itself is made
that of the whole batch:

* random numbers (dropout masks, initial states, augmentations): each process draws those of the whole batch, in the
  order of a single process, and keeps its own rows (:func:`whole`, :func:`own`);
* batch statistics are summed over the processes (:func:`batch_norm`; torch's SyncBatchNorm is for GPUs alone, and takes
  the mean of the processes' gradients as if their shares were equal);
* the loss of a share is weighed by its size (:attr:`Share.weight`), so that the mean of the processes' gradients, which
  DistributedDataParallel takes, is the gradient of the mean over the batch, however it was divided;
* sums for metrics are taken over all processes (:func:`total`).

With one process all of these do nothing.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from .. import stopping
from .launcher import PERIOD, Group, free_port, sendable


class Share(NamedTuple):
    """The samples ``start`` ... ``stop - 1`` of a batch of ``samples``, divided over ``processes``."""

    start: int
    stop: int
    samples: int
    processes: int

    @classmethod
    def of(cls, samples: int, process: int, processes: int) -> "Share":
        """As equal as can be: sizes differ by one at most."""
        return cls(process * samples // processes, (process + 1) * samples // processes, samples, processes)

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def weight(self) -> float:
        """What the mean over this share is multiplied with, before the mean over the processes."""
        return (self.stop - self.start) * self.processes / self.samples


_held: Share | None = None  # of this process, while it computes a batch


@contextlib.contextmanager
def holding(share: Share | None) -> Iterator[None]:
    """Inside the block the batch is this share of a larger one (None: it is whole)."""
    global _held
    before, _held = _held, share
    try:
        yield
    finally:
        _held = before


def divided() -> bool:
    """Whether the batch at hand is a share of a larger one."""
    return _held is not None


def whole(samples: int) -> int:
    """Samples of the whole batch of which ``samples`` are at hand."""
    if _held is None:
        return samples
    if samples != _held.stop - _held.start:
        raise ValueError(f"{samples} samples are no share of {_held.stop - _held.start}")
    return _held.samples


def own(drawn: Tensor, dim: int = 0) -> Tensor:
    """The rows along ``dim`` that are at hand, of something that was drawn for the whole batch."""
    return drawn if _held is None else drawn.narrow(dim, _held.start, _held.stop - _held.start)


def total(value: Tensor) -> Tensor:
    """Sum over all processes; no gradient."""
    if not _several():
        return value
    value = value.detach().clone()
    torch.distributed.all_reduce(value)
    return value


def mean(value: Tensor, samples: int) -> Tensor:
    """The mean over the whole batch, of ``value`` that is the mean over the ``samples`` at hand; with its gradient."""
    return all_reduce(value * samples) / whole(samples) if divided() else value


def largest(value: float | None, device: torch.device) -> float | None:
    """Maximum over all processes."""
    if value is None or not _several():
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return tensor.item()


def batch_norm(x: Tensor, norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    """``norm`` in training on ``x`` [rows, features], with the statistics of the whole batch; the running statistics
    follow, as in torch with the unbiased variance. Rows are samples times a number that all samples share (time)."""
    rows = x.shape[0] * _held.samples // (_held.stop - _held.start)
    centred = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    mean = all_reduce(centred.sum(0)) / rows
    centred = centred - mean
    variance = all_reduce(centred.square().sum(0)) / rows
    if norm.track_running_stats:
        with torch.no_grad():
            norm.num_batches_tracked += 1
            share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.to(norm.running_mean), share)
            norm.running_var.lerp_((variance * rows / max(rows - 1, 1)).to(norm.running_var), share)
    normalised = centred * torch.rsqrt(variance + norm.eps)
    return (normalised * norm.weight + norm.bias if norm.affine else normalised).to(x.dtype)


def _several() -> bool:
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


# ------------------------------------------------------------------------------------------------- processes


def run(
    work: Callable[..., Any], arguments: tuple, processes: int, report: Callable[..., None], group: Group | None = None
) -> Any:
    """``work(report, *arguments)`` in ``processes`` new processes that find each other as torchrun's do; the result of
    the first. ``report`` is called here with what the first one reports. Of a ``group`` every member starts one of them,
    whose result it gets.

    An error in any of them ends them all and is raised here; so does their end when this process dies.
    """
    context = torch.multiprocessing.get_context("spawn")
    ranks = [(rank, rank) for rank in range(processes)] if group is None else [(group.rank, group.local)]
    ends = [context.Pipe(duplex=False) for _ in ranks]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())} if group is None else group.meeting_point()
    environment = place | {"WORLD_SIZE": str(processes)}
    threads = max(1, torch.get_num_threads() // len(ranks))
    workers = [
        context.Process(
            target=_process,
            args=(rank, environment | {"RANK": str(rank), "LOCAL_RANK": str(local)}, threads, sender, work, arguments),
            name=f"process {rank} of {processes}",
            daemon=True,
        )
        for (rank, local), (_, sender) in zip(ranks, ends, strict=True)
    ]
    receivers = [receiver for receiver, _ in ends]
    try:
        for worker, (_, sender) in zip(workers, ends, strict=True):
            worker.start()
            sender.close()  # the worker's now: its end closes the pipe
        return _listen(receivers, workers, report, group)
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.kill()
                worker.join()


def _listen(receivers: list[Connection], workers: list, report: Callable[..., None], group: Group | None) -> Any:
    """Until all are done: pass reports on, raise the first error; the first one's result."""
    result, open_ = None, list(receivers)
    while open_:
        for receiver in wait(open_, timeout=None if group is None else PERIOD):
            try:
                kind, value = receiver.recv()
            except EOFError:
                worker = workers[receivers.index(receiver)]
                worker.join(10)
                raise RuntimeError(f"{worker.name} ended ({_ending(worker)})") from None
            if kind == "report":
                report(*value)
            elif kind == "error":
                raise value
            else:
                open_.remove(receiver)
                result = value if receiver is receivers[0] else result
        if open_ and group and (failed := group.failure()):
            raise failed
    return result


def _ending(worker) -> str:
    code = worker.exitcode
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"


def _process(rank: int, environment: dict, threads: int, sender: Connection, work: Callable, arguments: tuple) -> None:
    """One of the processes."""
    stopping.leave_to_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= environment
    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)  # these processes meet elsewhere
    os.environ["OMP_NUM_THREADS"] = str(threads)  # where it is not set Lightning takes the whole machine
    torch.set_num_threads(threads)

    def report(*value) -> None:
        if rank == 0:
            sender.send(("report", value))

    try:
        sender.send(("result", work(report, *arguments)))
    except BaseException as error:
        sender.send(("error", sendable(error)))
        threading.Event().wait()  # for the end: to leave now would be an error of its own in the other processes
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    """A run whose owner was killed must not be trained on: another command may take it over."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)

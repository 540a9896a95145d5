"""Data-parallel training on two processes, started once for all checks and forms of a plug-in."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .comparing import assert_equal, assert_true
from .derivatives import weighted
from .registry import NotApplicable, check
from .subject import Case, Subject

_RANKS, _SECONDS = 2, 120


@check("ddp-states", "DistributedDataParallel sends the buffers of rank 0 to every other before each forward pass")
def each_process_of_data_parallel_training_keeps_its_own_states(case: Case) -> None:
    case.needs_states()
    _raise_what_happened(case, "states")


@check("ddp-gradients", "gradients are averaged, and replicas that drift apart are two networks")
def data_parallel_training_averages_gradients_and_keeps_replicas_equal(case: Case) -> None:
    _raise_what_happened(case, "gradients")


class _OverTime(nn.Module):
    """The module behind a trainable gain (a wrapper without parameters is refused), over a whole window per call."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case, self.module = case, case.module()
        self.gain = nn.Parameter(torch.ones((), dtype=case.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.case.run(self.module, x * self.gain)


def _states(case: Case, rank: int) -> None:
    alone, wrapped = _OverTime(case), DistributedDataParallel(_OverTime(case))
    windows = case.inputs(12, 2 * _RANKS)[:, rank::_RANKS].split(4)
    with torch.no_grad():
        one, two = (torch.cat([net(window) for window in windows]) for net in (alone, wrapped))
    assert_equal(two, one, f"process {rank} with DistributedDataParallel and without")


def _gradients(case: Case, rank: int) -> None:
    x = case.inputs(batch=2 * _RANKS)
    net = DistributedDataParallel(_OverTime(case), broadcast_buffers=False)
    output = net(x[:, rank::_RANKS])
    weighted(output).backward()
    expected = []
    for other in range(_RANKS):
        plain = _OverTime(case)
        weighted(plain(x[:, other::_RANKS])).backward()
        expected.append({name: parameter.grad for name, parameter in plain.named_parameters()})
    for name, parameter in net.module.named_parameters():
        each = [gradients[name] for gradients in expected]
        if parameter.grad is not None and None not in each:
            assert_equal(parameter.grad, sum(each) / _RANKS, f"the gradients of {name}, averaged and from the two alone")
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    for name, parameter in net.module.named_parameters():
        both = [torch.empty_like(parameter) for _ in range(_RANKS)]
        dist.all_gather(both, parameter.detach())
        assert_true(torch.equal(*both), f"{name} differs between the two processes after a step of the optimizer")


_SCENES: dict[str, Callable[[Case, int], None]] = {"states": _states, "gradients": _gradients}


def _raise_what_happened(case: Case, scene: str) -> None:
    subject = case.subject
    if "_ranks" not in vars(subject):
        vars(subject)["_ranks"] = _on_two_processes(subject)
    for rank in range(_RANKS):
        said = vars(subject)["_ranks"].get((case.form, scene, rank), "said nothing within two minutes")
        assert_true(said is None, f"process {rank}: {said}")


def _on_two_processes(subject: Subject) -> dict[tuple[str, str, int], str | None]:
    """What went wrong, by form, scene and process; None: nothing.

    The processes are forked, so that a factory need not be importable by them.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or not dist.is_gloo_available():
        raise NotApplicable("needs processes that fork, and gloo")
    if torch.cuda.is_initialized():
        raise NotApplicable("a process that has used CUDA cannot be forked; run it with CUDA_VISIBLE_DEVICES=")
    subject.cases()[0].inputs()  # found out once, before there are two
    context = multiprocessing.get_context("fork")
    results: dict[tuple[str, str, int], str | None] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        ends = [context.Pipe(duplex=False) for _ in range(_RANKS)]
        processes = [
            context.Process(target=_work, args=(rank, Path(folder, "store"), subject, end[1]), daemon=True)
            for rank, end in enumerate(ends)
        ]
        for process in processes:
            process.start()
        try:
            for receiving, sending in ends:
                sending.close()
                if receiving.poll(_SECONDS):
                    with contextlib.suppress(EOFError):
                        results |= receiving.recv()
        finally:
            for process in processes:
                process.join(1)
                if process.is_alive():
                    process.kill()
                    process.join()
    return results


def _work(rank: int, store: Path, subject: Subject, end) -> None:
    torch.set_num_threads(1)  # the pools of threads stayed in the other process
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    warnings.simplefilter("ignore")
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=_RANKS, timeout=datetime.timedelta(seconds=20)
    )
    results = {}
    for case in subject.cases():
        for name, scene in _SCENES.items():
            if name == "states" and not case.carried:
                continue
            with subject.framework.alone():
                try:
                    scene(case, rank)
                    results[case.form, name, rank] = None
                except Exception as error:
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    results[case.form, name, rank] = (
                        f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
                    )
    end.send(results)
    end.close()
    dist.destroy_process_group()

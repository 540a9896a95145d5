"""Work for the tests of :func:`recipes.engine.training.parallel.run`, without the libraries that take seconds to import."""

import os
import signal

import torch.distributed


class Broken(RuntimeError):
    pass


def _meet() -> int:
    torch.distributed.init_process_group("gloo")
    return torch.distributed.get_rank()


def add_up(report, first: int) -> int:
    rank = _meet()
    report(rank, "from the first alone")
    value = torch.tensor(first + rank)
    torch.distributed.all_reduce(value)
    return value.item()


def break_second(report) -> None:
    if _meet() == 1:
        raise Broken("the second")
    torch.distributed.barrier()


def kill_second(report) -> None:
    if _meet() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()

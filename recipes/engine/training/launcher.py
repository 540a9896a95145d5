"""Commands that a launcher has started once for every process of a training: torchrun, or SLURM's srun.

Each of these processes runs the whole command. The one of rank 0 leads: it alone claims runs, says which of them to train,
and writes results, tables and pictures; the others train what it says (:meth:`Group.orders`). They agree through torch's
store, which rank 0 holds (with torchrun: its agent). Every training has processes of its own
(:func:`recipes.engine.training.parallel.run`), so that one that fails is ended on all nodes, and the next can begin.
"""

import contextlib
import functools
import os
import pickle
import socket
import time
import traceback
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import torch.distributed

from ..errors import OptionError, one_line

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments import ClusterEnvironment

MEETING = timedelta(minutes=10)  # for all processes to have started
LEAVING = 30.0  # seconds for all to have heard that nothing is left
PERIOD = 0.1  # seconds between two looks at the store; waiting inside of it would leave the process deaf to signals
_SLURM, _TORCHRUN = "SLURM_STEP_NUM_TASKS", "TORCHELASTIC_RUN_ID"


def divide(devices: int | None, nodes: int | None) -> tuple[int, int]:
    """Processes on each node, and nodes, for what ``--devices`` and ``--num-nodes`` say (None: nothing).

    torchrun divides one training among all that it starts. What srun starts is one training with these options; without
    them every task is a command of its own, as those of a job array. Raises :class:`OptionError` where the launcher has
    started other processes, or nothing has started those of the other nodes.
    """
    asked = devices or 1, nodes or 1
    said = f"--devices {asked[0]} --num-nodes {asked[1]}"
    if _TORCHRUN in os.environ:
        here = _number("LOCAL_WORLD_SIZE")
        found = here, _number("WORLD_SIZE") // here
        if (devices or found[0], nodes or found[1]) != found:
            raise OptionError(f"{said}: torchrun has started {found[0]} processes on {found[1]} nodes; drop these options")
        return found
    tasks = _number(_SLURM) if _SLURM in os.environ else 1
    if asked[0] * asked[1] == 1 or (tasks == 1 and asked[1] == 1):
        return asked
    if _SLURM not in os.environ:
        raise OptionError(
            f"--num-nodes {nodes}: start this command on every node, by torchrun or srun (docs/how-to/cluster.md)"
        )
    if asked[0] * asked[1] != tasks:
        raise OptionError(f"{said}: srun has started {tasks} tasks; use --nodes={asked[1]} --ntasks-per-node={asked[0]}")
    if _number("SLURM_NODEID") >= asked[1] or _number("SLURM_LOCALID") >= asked[0]:
        raise OptionError(f"{said}: srun has divided its {tasks} tasks otherwise; use --ntasks-per-node={asked[0]}")
    return asked


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise OptionError(f"the launcher has set {name} to {text!r}, which is no number")
    return int(text)


@functools.cache  # processes meet once
def group(devices: int, nodes: int) -> "Group | None":
    """The processes of this command that :func:`divide` has found; None where there is one, which starts others itself."""
    if devices * nodes == 1:
        return None
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if _TORCHRUN in os.environ:
        return Group(TorchElasticEnvironment(), devices, nodes)
    if os.environ.get(_SLURM, "1") == "1":
        return None
    try:
        environment = SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:  # Lightning's advice on options of srun
        raise OptionError(f"srun: {one_line(error, 400)}") from error
    return Group(environment, devices, nodes)


class Group:
    """The processes of a command. Raises :class:`ConnectionError` where they do not find each other."""

    def __init__(self, environment: "ClusterEnvironment", devices: int, nodes: int):
        self.node, self.local, self.size = environment.node_rank(), environment.local_rank(), devices * nodes
        self.rank = self.node * devices + self.local  # Lightning's; SLURM's PROCID counts otherwise where it is told to
        self.address = environment.main_address
        place = f"[{self.address}]" if ":" in self.address else self.address
        place = f"{place}:{environment.main_port}"
        try:
            meet = torch.distributed.rendezvous(f"tcp://{place}", self.rank, self.size, timeout=MEETING)
            store, _, _ = next(iter(meet))
        except (RuntimeError, ValueError) as error:
            raise ConnectionError(
                f"process {self.rank} of {self.size} has not met the others at {place}: {error}"
            ) from error
        self._store = torch.distributed.PrefixStore("snn_delay_plugins", store)
        self._told = self._trainings = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0

    # ---------------------------------------------------------------------------------------- what to train

    @contextlib.contextmanager
    def leading(self) -> Iterator[None]:
        """Of the leader: inside of the block it may :meth:`order`; after it the others' :meth:`orders` end."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(RuntimeError):  # the store may be gone with those who are stopped, too
                self.order(None)
            raise
        self.order(None)
        left, until = f"left {self._told}", time.monotonic() + LEAVING  # this process may hold the store
        while self._store.add(left, 0) < self.size - 1 and time.monotonic() < until:
            time.sleep(PERIOD)

    def order(self, what: object) -> None:
        """The next that all are to train; None: nothing more."""
        self._told += 1
        self._store.set(f"order {self._told}", pickle.dumps(what))

    def orders(self) -> Iterator:
        """What the leader says, in one of its blocks. Raises :class:`ConnectionError` where it has ended."""
        while True:
            self._told += 1
            try:
                while not self._store.check([f"order {self._told}"]):
                    time.sleep(PERIOD)
                what = pickle.loads(self._store.get(f"order {self._told}"))
                if what is None:
                    self._store.add(f"left {self._told}", 1)
                    return
            except RuntimeError as error:
                raise ConnectionError("the process that leads this training has ended") from error
            yield what

    # ------------------------------------------------------------------------------------------ one training

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Around what every process does for one order: an error in one is one in all."""
        self._trainings += 1
        try:
            yield
        except Exception as error:
            with contextlib.suppress(RuntimeError):
                self._store.compare_set(f"failed {self._trainings}", "", pickle.dumps(sendable(error)))
            raise

    def failure(self) -> BaseException | None:
        """What has gone wrong first, in any of the processes, in the training at hand."""
        failed = f"failed {self._trainings}"
        return pickle.loads(self._store.get(failed)) if self._store.check([failed]) else None

    def meeting_point(self) -> dict[str, str]:
        """Where the processes of the training at hand find each other, as environment variables."""
        port = f"port {self._trainings}"
        if self.leads:
            self._store.set(port, str(free_port(every_interface=True)))
        while not self._store.check([port]):
            if failed := self.failure():
                raise failed
            time.sleep(PERIOD)
        return {"MASTER_ADDR": self.address, "MASTER_PORT": self._store.get(port).decode(), "NODE_RANK": str(self.node)}


def free_port(every_interface: bool = False) -> int:
    with socket.socket() as probe:
        probe.bind(("" if every_interface else "127.0.0.1", 0))
        return probe.getsockname()[1]


def sendable(error: BaseException) -> BaseException:
    """The error itself where it can be sent, else its traceback."""
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(text)
    error.add_note(text)
    return error

"""``python -m recipes ...`` as clusters start it: once on each of two nodes, which are both this machine, or as tasks of a
job array. The processes are forked from one that has imported the libraries already."""

import contextlib
import os
import sys
import traceback
from pathlib import Path

import stopped_commands
import torch

from recipes.engine.training.launcher import free_port

LAUNCHERS = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "RANK": "{}", "LOCAL_RANK": "0"}
    | {"GROUP_RANK": "{}", "TORCHELASTIC_USE_AGENT_STORE": "False"},
    "srun": {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "{}"}
    | {"SLURM_LOCALID": "0", "SLURM_NODEID": "{}", "SLURM_JOB_ID": "20"},
}
OPTIONS = {"torchrun": [], "srun": ["--num-nodes", "2"]}


def start_nodes(launcher: str, command: list[str], out: Path) -> list:
    """A process for each node, which writes what it says into ``out / said{node}``."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    nodes = []
    for node in range(2):
        environment = {name: value.format(node) for name, value in LAUNCHERS[launcher].items()} | place
        arguments = [*command, *OPTIONS[launcher], "--threads", "1", "--out", str(out)]
        nodes.append(
            stopped_commands.context().Process(target=_run_node, args=(environment, arguments, out / f"said{node}"))
        )
        nodes[-1].start()
    return nodes


def start_tasks(number: int, command: list[str], out: Path) -> list:
    """So many of a job array, each of which writes what it says into ``out / said{task}``, and "TRAINED network seed"."""
    tasks = []
    for task in range(number):
        arguments = [*command, "--threads", "1", "--out", str(out)]
        tasks.append(stopped_commands.context().Process(target=_run_task, args=(arguments, out / f"said{task}")))
        tasks[-1].start()
    return tasks


def _run_task(arguments: list[str], said: Path) -> None:
    from recipes.engine.command import work

    train_one = work.train_one

    def counted(recipe, run, *rest):
        print("TRAINED", run.network, run.seed, flush=True)
        return train_one(recipe, run, *rest)

    work.train_one = counted
    _main(arguments, said)


def _run_node(environment: dict[str, str], arguments: list[str], said: Path) -> None:
    """The first seed diverges on the second node."""
    from recipes.engine.command import work
    from recipes.engine.errors import Diverged

    os.environ |= environment
    torch.multiprocessing.get_context = lambda kind: stopped_commands.context()  # what is imported already
    if said.name == "said1":
        train_one = work.train_one

        def diverging(recipe, run, *rest):
            if run.seed == 0:
                raise Diverged("on the second node alone")
            return train_one(recipe, run, *rest)

        work.train_one = diverging
    _main(arguments, said)


def _main(arguments: list[str], said: Path) -> None:
    from recipes.__main__ import main

    with open(said, "w", buffering=1) as printed, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = main(arguments)
        except Exception:
            traceback.print_exc()
            code = 70
    sys.exit(code)

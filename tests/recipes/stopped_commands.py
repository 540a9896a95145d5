"""``python -m recipes ...`` in processes that send themselves a signal at a place in their training, not at a time: they
are stopped there however fast or slow the machine is.

The processes are forked from one that has imported the libraries already.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
PRELOADED = (
    "recipes.__main__",
    "recipes.engine.training.trainer",
    "spikingjelly.activation_based.layer",
    "stopped_commands",
)


def context() -> multiprocessing.context.BaseContext:
    """Of processes that need not import anything anew."""
    from multiprocessing import forkserver

    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(PRELOADED))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return made


def stop(command: list[str], out: Path, how: signal.Signals, place: Callable) -> tuple[int, str]:
    """Run the command into ``out`` and stop it by the signal at the ``place``; its exit code and what it printed."""
    out.mkdir(parents=True)
    process = context().Process(target=_run, args=([*command, "--threads", "1", "--out", str(out)], out, how, place))
    process.start()
    process.join(600)
    if process.is_alive():
        process.kill()
        raise TimeoutError((out / "printed").read_text())
    return process.exitcode, (out / "printed").read_text()


def _run(arguments: list[str], out: Path, how: signal.Signals, place: Callable) -> None:
    from recipes.__main__ import main

    # a shell lets what it starts in the background ignore some, nohup another, and then the command does
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for heard in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(heard, signal.SIG_DFL)
    with open(out / "printed", "w", buffering=1) as printed:
        sys.stdout = sys.stderr = printed
        place(lambda: os.kill(os.getpid(), how))
        sys.exit(main(arguments))


# ------------------------------------------------------------------------------------------------------- places


def in_the_third_epoch(stop_here: Callable[[], None]) -> None:
    """Between two of its batches. The processes that train with this one are named in ``workers`` first."""
    from recipes.engine.command import work

    train_one = work.train_one

    def with_report(recipe, run, splits, folder, report, how):
        def reporting(share, epoch):
            report(share, epoch)
            if epoch is not None and epoch["epoch"] == 2 and not (folder / "workers").exists():
                (folder / "workers").write_text(" ".join(str(p.pid) for p in multiprocessing.active_children()))
                stop_here()

        return train_one(recipe, run, splits, folder, reporting, how)

    work.train_one = with_report


def while_the_second_checkpoint_is_put_into_its_place(stop_here: Callable[[], None]) -> None:
    """It is written under another name, and the first one still has the right one."""
    replace = os.replace

    def replacing(source, target):
        if Path(target).name == "last.ckpt" and Path(target).exists():
            stop_here()
        replace(source, target)

    os.replace = replacing

"""Two processes of one process group, started once, that run scenes of data-parallel training.

They are fresh interpreters: a fork of a process that has compiled or used CUDA cannot train (autograd's threads).
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import pickle
import selectors
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import BinaryIO

from .sending import packed, unpacked

__all__ = ["RANKS", "Pair", "in_worker", "pair"]

RANKS = 2
_SECONDS, _PATIENCE = 240, 10  # for an answer; after the other process has failed
_BROKEN = ("", "")  # the key that says that a process left in the middle of something that the other waits for
_worker = False
_pair: Pair | None = None


def in_worker() -> bool:
    """Whether this is one of the two: a script that it loads must not start the checks again."""
    return _worker


def pair() -> Pair:
    """The two processes of this one."""
    global _pair
    if _pair is None or not _pair.alive():
        _pair = Pair()
    return _pair


class Pair:
    """Two workers, each at the end of two pipes."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.folder = tempfile.mkdtemp(prefix="conformance-")
        command = [sys.executable, "-c", "from snn_delay_plugins.testing.processes import work; work()"]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
        }
        if sys.platform == "linux":
            environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
        self.processes = [
            subprocess.Popen(
                [*command, str(rank), str(Path(self.folder, "store"))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
            )
            for rank in range(RANKS)
        ]  # fmt: skip
        atexit.register(self.close)

    def alive(self) -> bool:
        return self.owner == os.getpid() and all(process.poll() is None for process in self.processes)

    def ask(self, plugin: object) -> list[dict | str]:
        """What each process found, or in words why it found nothing. After a failure the two start anew next time."""
        request = packed((sys.path, os.getcwd(), packed(plugin)))
        answers: list[dict | str] = ["said nothing in time"] * RANKS
        with selectors.DefaultSelector() as waiting:
            for rank, process in enumerate(self.processes):
                _write(process.stdin, request)
                waiting.register(process.stdout, selectors.EVENT_READ, rank)
            until = time.monotonic() + _SECONDS
            while waiting.get_map() and time.monotonic() < until:
                for key, _ in waiting.select(until - time.monotonic()):
                    answers[key.data] = _read(key.fileobj) or "ended without a word"
                    waiting.unregister(key.fileobj)
                    if _went_wrong(answers[key.data]):
                        until = min(until, time.monotonic() + _PATIENCE)
        if any(_went_wrong(answer) for answer in answers):
            self.close()
        return answers

    def close(self) -> None:
        if self.owner != os.getpid():
            return
        for process in self.processes:
            with contextlib.suppress(OSError):
                process.stdin.close()
                process.stdout.close()
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)


def _went_wrong(answer: dict | str) -> bool:
    return isinstance(answer, str) or _BROKEN in answer


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(struct.pack("<q", len(data)) + data)
    file.flush()


def _read(file: BinaryIO):
    head = file.read(8)
    if len(head) < 8:
        return None
    return pickle.loads(file.read(struct.unpack("<q", head)[0]))


def work() -> None:
    """One of the two processes: plug-ins come in, what happened to them goes out."""
    global _worker
    _worker = True
    answers = os.fdopen(os.dup(1), "wb")  # what a plug-in prints must not lie between the answers
    os.dup2(2, 1)
    rank, store = int(sys.argv[1]), sys.argv[2]
    warnings.simplefilter("ignore")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS, timeout=datetime.timedelta(seconds=120)
    )
    while (request := _read(sys.stdin.buffer)) is not None:
        path, folder, plugin = request
        sys.path[:] = path
        with contextlib.suppress(OSError):
            os.chdir(folder)
        try:
            answer = _played(unpacked(plugin), rank)
        except Exception as error:
            answer = f"could not be built in another process: {type(error).__name__}: {error}"
        _write(answers, pickle.dumps(answer))


def _played(plugin, rank: int) -> dict[tuple[str, str], str | None]:
    """What went wrong, by form and scene; None: nothing."""
    from .checks_parallel import SCENES
    from .registry import NotApplicable
    from .subject import Subject

    subject = Subject(plugin)
    results: dict[tuple[str, str], str | None] = {}
    for case in subject.cases():
        for name, scene in SCENES.items():
            if name == "states" and not case.carried:
                continue
            with subject.framework.alone():
                try:
                    scene(case, rank)
                    results[case.form, name] = None
                except NotApplicable:
                    continue
                except AssertionError as error:  # at the end of a scene, where nobody waits
                    results[case.form, name] = str(error)
                except Exception as error:
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    said = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
                    return {**results, (case.form, name): said, _BROKEN: said}
    return results

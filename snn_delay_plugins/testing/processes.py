"""Two processes of one process group, started once, that run scenes of data-parallel training.

They are fresh interpreters: a fork of a process that has compiled or used CUDA cannot train (autograd's threads).
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
import warnings
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

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
        self.errors = [Path(self.folder, f"errors-{rank}") for rank in range(RANKS)]
        self.processes: list[Any] = []
        for rank, errors in enumerate(self.errors):
            with errors.open("wb") as file:
                arguments = [*command, str(rank), str(Path(self.folder, "store"))]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": file}
                self.processes.append(subprocess.Popen(arguments, env=environment, **pipes))
        self.readers = ThreadPoolExecutor(RANKS, thread_name_prefix="conformance")
        atexit.register(self.close)

    def alive(self) -> bool:
        return self.owner == os.getpid() and all(process.poll() is None for process in self.processes)

    def ask(self, plugin: object) -> list[dict | str]:
        """What each process found, or in words why it found nothing. After a failure the two start anew next time."""
        request = packed((sys.path, os.getcwd(), packed(plugin)))
        waiting = [self.readers.submit(self._asked, rank, request) for rank in range(RANKS)]
        done, _ = wait(waiting, _SECONDS, return_when=FIRST_COMPLETED)
        wait(waiting, _PATIENCE if any(_went_wrong(each.result()) for each in done) else _SECONDS)
        answers = [each.result() if each.done() else "said nothing in time" for each in waiting]
        if any(_went_wrong(answer) for answer in answers):
            self.close()
        return answers

    def _asked(self, rank: int, request: bytes) -> dict | str:
        process = self.processes[rank]
        try:
            _write(process.stdin, request)
            answer = _read(process.stdout)
        except (OSError, ValueError):  # it has ended, or was ended
            answer = None
        if answer is not None:
            return answer
        lines = self.errors[rank].read_text(errors="replace").strip().splitlines() if self.errors[rank].exists() else []
        return f"ended without an answer{': ' + lines[-1] if lines else ''}"

    def close(self) -> None:
        if self.owner != os.getpid():
            return
        for process in self.processes:
            process.kill()
            process.wait()
        self.readers.shutdown()  # pipes of a process that has ended are at their end
        for process in self.processes:
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)


def _went_wrong(answer: dict | str) -> bool:
    return isinstance(answer, str) or _BROKEN in answer


def _write(file: Any, data: bytes) -> None:
    file.write(struct.pack("<q", len(data)) + data)
    file.flush()


def _read(file: Any):
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

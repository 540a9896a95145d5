"""Shared by the tests of kernels. The interpreter's run in a process of their own: test_triton_kernels.py starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_KINDS = ("", "eventprop_", "eventprop_linear_", "linear_neuron_", "recurrent_neuron_")
_FILES = [f"{name}in_triton_interpreter.py" for name in _KINDS]
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore = [] if _INTERPRETED else _FILES

if _INTERPRETED:
    from triton.runtime import interpreter

    _patch = interpreter._patch_lang_tensor

    def _patch_for_numpy(tensor, *scope):
        """Triton up to 3.6 takes int() of arrays of one element for loop bounds, which numpy 2.4 refuses."""
        _patch(tensor, *scope)
        set_attribute = scope[0].set_attr if scope else setattr
        set_attribute(tensor, "__index__", lambda self: self.handle.data.item())

    interpreter._patch_lang_tensor = _patch_for_numpy


@pytest.fixture
def passes_in_the_interpreter():
    """Runs a file of tests in Triton's interpreter, chosen when triton is imported, which torch may have done here."""

    def passes(name: str, **environment: str) -> None:
        file = Path(__file__).with_name(name)
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
            env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", **environment},
            capture_output=True, text=True, cwd=file.parents[2], timeout=1800,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
        assert " passed" in run.stdout

    return passes


@pytest.fixture
def process_group():
    """This process alone in a group, as DistributedDataParallel needs one."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()

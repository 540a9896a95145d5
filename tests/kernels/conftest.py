"""Shared by the tests of kernels. The interpreter's run in a process of their own: test_triton_kernels.py starts it."""
import os

import pytest
import torch

_FILES = ["in_triton_interpreter.py", "eventprop_in_triton_interpreter.py"]
collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else _FILES


@pytest.fixture
def process_group():
    """This process alone in a group, as DistributedDataParallel needs one."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()

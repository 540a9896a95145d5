"""Operators called by torch.ops with arguments that do not fit: nothing is read or written outside of an array."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("fuzz_operators.py")
CALLS = 120  # of each operator
# By hand, for all schemes and thousands of calls: python tests/kernels/fuzz_operators.py OPERATORS CALLS thorough
GROUPS = {
    "linear, delays and neurons": "sparse_linear,sparse_linear_backward,sparse_delayed_linear,sparse_delayed_linear_step,"
    "sparse_taps,sparse_taps_backward,delayed_linear,delayed_linear_backward,linear_neuron,linear_neuron_backward",
    "recurrent neurons": "recurrent_neuron,recurrent_neuron_backward",
    "events": "event_patches,event_patches_backward,eventprop_arrivals,eventprop_arrivals_backward,eventprop_lif,"
    "eventprop_lif_backward,eventprop_li,eventprop_li_backward",
    "events of linear neurons": "eventprop_linear,eventprop_linear_backward,eventprop_linear_li,"
    "eventprop_linear_li_backward",
}


@pytest.mark.parametrize("group", GROUPS)
def test_no_call_of_an_operator_leaves_its_arrays(group, tmp_path):
    checked = {
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "NUMBA_OPT": "0",  # a loop that is called with a few numbers is not worth the time of optimizing it
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(DRIVER.parents[2]),
    }
    operators = GROUPS[group]
    run = subprocess.run(
        [sys.executable, str(DRIVER), operators, str(CALLS)],
        env={**os.environ, **checked},
        capture_output=True,
        text=True,
        cwd=DRIVER.parents[2],
        timeout=1800,
    )
    calls = run.stderr.split("\0")
    assert run.returncode == 0, f"{run.returncode}: {calls[-1][-3000:]}\nafter the call {calls[-2:-1]}"
    counts = {name: count for line in run.stdout.splitlines() for name, count in json.loads(line).items()}
    print(counts)
    assert list(counts) == operators.split(",")
    for name, count in counts.items():
        assert count["returned"] > CALLS / 4 and count["refused"] > CALLS / 8, (name, count)

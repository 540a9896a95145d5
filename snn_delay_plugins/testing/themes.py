"""The themes, in the order of a report; importing one adds its checks."""

from . import (  # noqa: F401
    checks_compile,
    checks_copies,
    checks_dtypes,
    checks_gradients,
    checks_inputs,
    checks_parallel,
    checks_reset,
    checks_snntorch,
    checks_spikingjelly,
    checks_time,
    checks_training,
)  # isort: skip

"""SpikingJelly's ``op_counter`` beside our operators, of which it knows no rule and counts zero."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

__all__ = ["counting", "uncounted"]


_OF_FUNCTION = {
    "spike_linear": "sparse_linear",
    "adlif": "linear_neuron",
}  # where an operator is called otherwise than its function


def counting() -> bool:
    """Whether anything looks at operators as they run: nearly never, and asked before every kernel."""
    return torch._C._len_torch_dispatch_stack() > 0


def uncounted(operator: str) -> str | None:
    """What is to be said of a counter that is active and has no rule for ``snn_delay_plugins::operator``; else None.

    :raises NotImplementedError: if the counter is strict.
    """
    operator = _OF_FUNCTION.get(operator, operator)
    overload = getattr(getattr(torch.ops.snn_delay_plugins, operator, None), "default", None)
    for mode in _get_current_dispatch_mode_stack():
        if not type(mode).__module__.startswith("spikingjelly."):
            continue
        counters = [c for c in getattr(mode, "counters", ()) if overload is None or not c.has_rule(overload)]
        names = ", ".join(type(c).__name__ for c in counters)
        if counters and getattr(mode, "strict", False):
            raise NotImplementedError(
                f"{type(mode).__name__}: snn_delay_plugins::{operator} not defined by {names}. Give a rule for it with "
                "extra_rules, or set strict=False, which leaves it out of the totals"
            )
        if counters:
            return (
                f"SpikingJelly's {names} has no rule for the operator snn_delay_plugins::{operator} and counts it as zero: "
                "the totals are too low. Give a rule for it with extra_rules"
            )
    return None

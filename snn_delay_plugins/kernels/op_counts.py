"""SpikingJelly's ``op_counter`` beside our operators, which it counts by the rules of
:mod:`snn_delay_plugins.spikingjelly.counters` alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

__all__ = ["announce", "counting", "delay_line_operator", "uncounted"]


_OF_FUNCTION = {
    "spike_linear": "sparse_linear",
    "adlif": "linear_neuron",
}  # where an operator is called otherwise than its function
_REMEDY = "Give the counter extra_rules=snn_delay_plugins.spikingjelly.counters.extra_rules(its class)"


@cache
def delay_line_operator() -> Callable[[Tensor, Tensor], Tensor]:
    """``snn_delay_plugins::delay_line``, which does nothing but to be seen by counters: the steps of layers with delays run
    in loops that are no operator of torch."""

    @torch.library.custom_op("snn_delay_plugins::delay_line", mutates_args=())
    def delay_line(spikes: Tensor, fan_out: Tensor) -> Tensor:
        """``fan_out`` int64 ``[in]``: over how many synapses and steps a spike of each sender goes."""
        return spikes.new_empty(0)

    return delay_line


def announce(spikes: Tensor, fan_out: Tensor) -> None:
    """Show a counter what a step of a layer with delays does."""
    delay_line_operator()(spikes.detach(), fan_out)


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
                f"{type(mode).__name__}: snn_delay_plugins::{operator} not defined by {names}. {_REMEDY}, or set "
                "strict=False, which leaves it out of the totals"
            )
        if counters:
            return (
                f"SpikingJelly's {names} has no rule for the operator snn_delay_plugins::{operator} and counts it as zero: "
                f"the totals are too low. {_REMEDY}"
            )
    return None

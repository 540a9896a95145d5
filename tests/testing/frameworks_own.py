"""The frameworks' own neurons and layers before the kit, with the reason for everything that does not hold.

The table of docs/testing.md is made from them::

    python -m snn_delay_plugins.testing tests/testing/frameworks_own.py:PLUGINS --markdown
"""

from __future__ import annotations

import snntorch as snn
from spikingjelly.activation_based import layer, neuron

from snn_delay_plugins.testing import Plugin

SNNTORCH = {
    "reset-depth": "snnTorch 1.0's `utils.reset` looks at the direct children of a network (on main: at every module)",
    "reset-others": "snnTorch 1.0's `utils.reset` clears every neuron of a class that is alive",
    "float64": "the default surrogate, `atan`, answers in float32",
    "bfloat16": "the default surrogate, `atan`, answers in float32",
    "gradients": "by design: the reset is detached from the graph (`mem_reset`)",
    "deepcopy": "the states keep their graph, and torch does not copy tensors that are not leaves",
    "pickle": "the default surrogate is a function inside of a function, which pickle cannot name",
    "save": "the default surrogate is a function inside of a function, which pickle cannot name",
    "freed": "`SpikingNeuron.instances` keeps every neuron alive",
    "ddp-states": "the states are buffers, which are overwritten by those of process 0 in training",
}
LATER_STATES = "the second call of a checkpoint starts from states that have gone on, with a wrong gradient and no error"
SPIKINGJELLY = {
    "no-steps": "an empty sequence is indexed or stacked (IndexError, RuntimeError)",
    "deepcopy": "the memories keep their graph, and torch does not copy tensors that are not leaves",
    "checkpoint-carried": f"{LATER_STATES}; `memopt.checkpoint_module` is right",
}
IN_PLACE = "`detach` cuts memories in place, and the output is one of them"

PLUGINS = {
    "snn.Leaky": Plugin(lambda: snn.Leaky(beta=0.9), expected_failures={**SNNTORCH, "checkpoint-carried": LATER_STATES}),
    "snn.Synaptic": Plugin(lambda: snn.Synaptic(alpha=0.9, beta=0.8), expected_failures=SNNTORCH),
    "snn.RLeaky": Plugin(
        lambda: snn.RLeaky(beta=0.9, linear_features=5),
        expected_failures={
            **{key: reason for key, reason in SNNTORCH.items() if key != "gradients"},  # not in float64: not asked
            "average": "the states are buffers, which an average of weights pairs by position",
            "detach-is-local": "`detach_hidden` cuts the states in place, and the spikes are one of them",
        },
    ),
    "snn.StateLeaky": Plugin(
        lambda: snn.StateLeaky(beta=0.9, channels=5),
        expected_failures={
            **{key: SNNTORCH[key] for key in ("float64", "bfloat16", "pickle", "save", "freed")},
            "deepcopy": "the last spikes are kept with their graph, and torch does not copy tensors that are not leaves",
            "no-steps": "the convolution over time refuses an empty sequence",
        },
    ),
    "LIFNode": Plugin(neuron.LIFNode, expected_failures=SPIKINGJELLY),
    "ParametricLIFNode": Plugin(neuron.ParametricLIFNode, expected_failures=SPIKINGJELLY),
    "IzhikevichNode": Plugin(neuron.IzhikevichNode, expected_failures=SPIKINGJELLY),  # an AdaptBaseNode
    "layer.Linear": Plugin(lambda: layer.Linear(6, 4)),
    "layer.SynapseFilter": Plugin(layer.SynapseFilter, expected_failures={**SPIKINGJELLY, "detach-is-local": IN_PLACE}),
    "layer.Delay": Plugin(
        lambda: layer.Delay(2),
        expected_failures={
            "no-steps": SPIKINGJELLY["no-steps"],
            "deepcopy": SPIKINGJELLY["deepcopy"],
            "detach": "the queue is a list, which `detach_net` does not look into",
            "detach-is-local": IN_PLACE,
            "memories": "the queue is one list, shared by whoever takes it out",
        },
    ),
}

IN_THE_SUITE = ("snn.Leaky", "snn.StateLeaky", "LIFNode", "layer.Linear", "layer.Delay")

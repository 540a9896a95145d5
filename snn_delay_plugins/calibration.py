"""Weights scaled on one batch until every spiking layer fires as often as wanted.

Networks of spiking neurons only learn where they fire, and whether they fire depends on weights, neuron and data
together (:mod:`.initial_weights` has the relation for ours). Here the relation is measured: layer by layer, in the order
in which the network runs them, the weights that feed a layer are scaled by a factor found by bisection.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from .delayed import DelayedSynapses, DiscreteSynapses
from .delayed_convolution import DelayedConvolution
from .eventprop import EventPropSpiking
from .events import SpikeEvents
from .frameworks import known
from .silence import SaysSilence, not_watched

__all__ = ["LayerRate", "calibrate", "firing_rates"]

_FEEDS = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, DelayedSynapses, DelayedConvolution)
_DOUBLINGS = 40
_BISECTIONS = 30
_CLOSE = 0.02


class LayerRate(NamedTuple):
    """What :func:`calibrate` found and did for one spiking layer."""

    before: float
    """Spikes per neuron and step (EventProp: per neuron and sample) before."""
    after: float
    factor: float
    """By which the weights were multiplied."""


def calibrate(
    net: nn.Module,
    batch: Tensor | SpikeEvents,
    rate: float = 0.05,
    *,
    spikes_per_sample: float = 5.0,
    forward: Callable[[nn.Module, Tensor], object] | None = None,
) -> dict[str, LayerRate]:
    """Scale the weights of ``net`` in place until each of its spiking layers fires as often as wanted on ``batch``.

    Spiking layers are the neurons and EventProp layers of this package and the neurons of snnTorch and SpikingJelly.
    What is scaled is the weight of the layer that ran last before the neurons: linear, convolution, with delays or without,
    or the normalisation between them and the neurons; of an EventProp layer its own ``weight``. Biases, recurrent
    weights and everything behind the last spiking layer stay as they are. The network computes as it stands (training or
    evaluation), with the same random numbers in every try; states are reset before and after, statistics of
    normalisations put back.

    :param batch: time first, ``[T, N, *]``, or events: typical input.
    :param rate: wanted share of neuron-steps with a spike, in (0, 1).
    :param spikes_per_sample: wanted spikes per neuron and sample of EventProp layers.
    :param forward: ``forward(net, batch)`` runs the network over a whole batch. Default: a call with the whole batch, or,
        for a ``Sequential`` with neurons or layers that take single steps, a call per step.
        A network of another class that takes single steps needs ``lambda net, batch: [net(x) for x in batch]``.
    :returns: rate before, rate after and factor by the layer's name, in the order of execution.
    :raises ValueError: for rates that cannot be meant, a network without spiking layers, input or weights that are not
        finite, naming the layer, and where neurons or layers that take single steps get the whole batch.
    :raises RuntimeError: where a layer cannot fire that often: no input spikes, or too much inhibition or adaptation. What
        was scaled before it stays scaled.

    Example::

        >>> from snn_delay_plugins import EventPropLIF, calibrate
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(EventPropLIF(20, 30), EventPropLIF(30, 10))
        >>> rates = calibrate(net, (torch.rand(100, 4, 20) < 0.05).float(), spikes_per_sample=3.0)
        >>> [(name, round(layer.after)) for name, layer in rates.items()]
        [('0', 3), ('1', 3)]
    """
    if not 0 < rate < 1:
        events = any(isinstance(module, EventPropSpiking) for module in net.modules())
        raise ValueError(
            f"rate is the share of neuron-steps with a spike and lies in (0, 1), got {rate}"
            + ("; the spikes per neuron and sample of EventProp layers are spikes_per_sample" if events else "")
        )
    if not 0 < spikes_per_sample < math.inf:
        raise ValueError(f"spikes_per_sample must be positive and finite, got {spikes_per_sample}")
    spiking = _spiking_layers(net, "calibrate")
    run = forward or _runner(net, batch)
    with torch.no_grad(), not_watched(), _undisturbed(net):
        trial = _Trial(net, batch, run, spiking)
        before = trial.run()
        table, scaled = {}, set()
        for layer in list(before):
            wanted, unit = rate, "neuron-step"
            if isinstance(layer, EventPropSpiking):
                wanted, unit = spikes_per_sample, "neuron and sample"
            feeds = trial.feeds[layer]
            if feeds is None or feeds in scaled:
                raise RuntimeError(
                    f"layer {spiking[layer]!r}: no weights of its own to scale were found before it"
                    + ("" if feeds is None else "; they feed an earlier spiking layer too")
                )
            scaled.add(feeds)
            after, factor = _scale(
                cast(Tensor, feeds.weight), wanted, unit, lambda layer=layer: trial.run()[layer], spiking[layer]
            )
            table[spiking[layer]] = LayerRate(before[layer], after, factor)
        return table


@torch.no_grad()
def firing_rates(
    net: nn.Module, batch: Tensor | SpikeEvents, *, forward: Callable[[nn.Module, Tensor], object] | None = None
) -> dict[str, float]:
    """How often every spiking layer fires on ``batch``: spikes per neuron and step, EventProp: per neuron and sample.

    Nothing of the network is changed, states are reset. What counts as a spiking layer, ``batch`` and ``forward`` are as in
    :func:`calibrate`.

    :returns: rates by the layer's name, in the order of execution.
    :raises ValueError: for a network without spiking layers, input that is not finite, and where neurons or layers that
        take single steps get the whole batch.

    Example::

        >>> from snn_delay_plugins import EventPropLIF
        >>> firing_rates(nn.Sequential(EventPropLIF(20, 30)), torch.zeros(100, 4, 20))
        {'0': 0.0}
    """
    spiking = _spiking_layers(net, "firing_rates")
    run = forward or _runner(net, batch)
    with not_watched(), _undisturbed(net):
        return {spiking[layer]: rate for layer, rate in _Trial(net, batch, run, spiking).run().items()}


def _spiking_layers(net: nn.Module, caller: str) -> dict[nn.Module, str]:
    """By name.

    :raises ValueError: if there are none.
    """
    spiking = {module: name or type(net).__name__ for name, module in net.named_modules() if _spikes(module)}
    if not spiking:
        raise ValueError(f"{type(net).__name__} holds no spiking layer that {caller} knows")
    return spiking


def _scale(weight: Tensor, wanted: float, unit: str, measure: Callable[[], float], name: str) -> tuple[float, float]:
    """Multiply ``weight`` by the factor with which ``measure`` is closest to ``wanted``: (what it gives then, factor)."""
    if not weight.isfinite().all():
        raise ValueError(f"layer {name!r}: the weights that feed it hold NaN or infinite values")
    original = weight.clone()
    tried: dict[float, float] = {}

    def rate_at(exponent: float) -> float:
        if exponent not in tried:
            weight.copy_(original * 2.0**exponent)
            tried[exponent] = measure()
        return tried[exponent]

    try:
        low = high = 0.0
        direction = 1 if rate_at(0.0) < wanted else -1
        for _ in range(_DOUBLINGS):
            if direction > 0 and rate_at(high) < wanted:
                low, high = high, high + 1
            elif direction < 0 and rate_at(low) > wanted:
                low, high = low - 1, low
            else:
                break
        else:
            raise RuntimeError(
                f"layer {name!r} cannot fire {wanted:g} times per {unit}: with its weights "
                f"scaled by 2^{min(tried):g} to 2^{max(tried):g} it fires {min(tried.values()):.3g} to "
                f"{max(tried.values()):.3g} times"
                + (
                    "; does it get any spikes? There are no input spikes, or no positive weights"
                    if not any(tried.values()) or not (original > 0).any()
                    else "; bias, inhibition or adaptation limit it"
                )
            )
        for _ in range(_BISECTIONS):
            best = min(tried, key=lambda exponent: abs(tried[exponent] - wanted))
            if abs(tried[best] - wanted) <= _CLOSE * wanted or high - low < 1e-4:
                break
            middle = (low + high) / 2
            low, high = (middle, high) if rate_at(middle) < wanted else (low, middle)
        best = min(tried, key=lambda exponent: abs(tried[exponent] - wanted))
        weight.copy_(original * 2.0**best)
        return tried[best], 2.0**best
    except BaseException:
        weight.copy_(original)
        raise


class _Trial:
    """One batch through the network, as often as asked; counts spikes and notes which layer feeds which neurons."""

    def __init__(self, net: nn.Module, batch: Tensor | SpikeEvents, run: Callable, spiking: dict[nn.Module, str]):
        self._net, self._batch, self._run, self._spiking = net, batch, run, spiking
        self.feeds: dict[nn.Module, nn.Module | None] = {}
        self._draws = torch.get_rng_state()  # every try draws the same random numbers
        devices = {p.device for p in net.parameters() if p.is_cuda}
        self._draws_on_devices = {device: torch.cuda.get_rng_state(device) for device in devices}

    def run(self) -> dict[nn.Module, float]:
        """Spikes per neuron and step (EventProp: and sample) of every spiking layer, in the order of execution."""
        spikes: dict[nn.Module, Tensor | int] = {}
        chances: dict[nn.Module, int] = {}
        last: list[nn.Module | None] = [None]

        def feeds(module: nn.Module, inputs: tuple, output: object) -> None:
            last[0] = module

        def entering(module: nn.Module, inputs: tuple) -> None:
            current = inputs[0]
            if isinstance(current, Tensor) and not current.isfinite().all():
                raise ValueError(f"layer {self._spiking[module]!r}: its input holds NaN or infinite values")
            self.feeds.setdefault(module, module if isinstance(module, EventPropSpiking) else last[0])

        def counted(module: nn.Module, inputs: tuple, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) and not isinstance(output, SpikeEvents) else output
            if isinstance(output, SpikeEvents):
                fired, count = len(output), output.batch_size * output.num_units
            elif isinstance(module, EventPropSpiking):
                fired, count = output.sum(), output[0].numel()
            else:
                fired, count = output.count_nonzero(), output.numel()
            spikes[module] = spikes.get(module, 0) + fired
            chances[module] = chances.get(module, 0) + count
            last[0] = None

        handles = [module.register_forward_hook(feeds) for module in self._net.modules() if _feeds(module)]
        for module in self._spiking:
            handles += [module.register_forward_pre_hook(entering), module.register_forward_hook(counted)]
        try:
            _reset(self._net)
            torch.set_rng_state(self._draws)
            for device, state in self._draws_on_devices.items():
                torch.cuda.set_rng_state(state, device)
            self._run(self._net, self._batch)
        finally:
            for handle in handles:
                handle.remove()
            _reset(self._net)
        return {module: float(spikes[module]) / max(1, chances[module]) for module in spikes}


@contextmanager
def _undisturbed(net: nn.Module) -> Iterator[None]:
    """Statistics of normalisations and torch's random numbers are put back."""
    norms = [module for module in net.modules() if isinstance(module, _NormBase)]
    statistics = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    with torch.random.fork_rng(devices=sorted({p.device.index for p in net.parameters() if p.is_cuda})):
        try:
            yield
        finally:
            for buffer, before in statistics:
                buffer.copy_(before)


def _feeds(module: nn.Module) -> bool:
    return isinstance(module, _FEEDS) and getattr(module, "weight", None) is not None


def _spikes(module: nn.Module) -> bool:
    """Ours, and the frameworks' own neurons: these frameworks are imported already where a network holds one."""
    snntorch, spikingjelly = (sys.modules.get(name) for name in ("snntorch", "spikingjelly.activation_based.neuron"))
    theirs = [getattr(snntorch, "SpikingNeuron", None), getattr(spikingjelly, "BaseNode", None)]
    return isinstance(module, (SaysSilence, *(kind for kind in theirs if kind is not None)))


def _reset(net: nn.Module) -> None:
    """Forget all states, as ``functional.reset_net`` and snnTorch's coming ``utils.reset`` do."""
    for module in net.modules():
        for name in ("reset_mem", "reset"):
            forget = getattr(module, name, None)
            if callable(forget):
                forget()


def _runner(net: nn.Module, batch: Tensor | SpikeEvents) -> Callable[[nn.Module, Tensor | SpikeEvents], object]:
    """How ``net`` takes a whole batch: in one call, or a ``Sequential`` of parts that take single steps, step by step."""
    if isinstance(net, nn.Sequential) and any(_one_step(module) for module in net.modules()):
        return lambda net, batch: [net(step) for step in batch]
    if isinstance(batch, SpikeEvents) or batch.dim() < 2:
        return lambda net, batch: net(batch)
    return _in_one_call


def _in_one_call(net: nn.Module, batch: Any) -> object:
    """``net(batch)``, stopped before a module that takes single steps takes the steps for samples and learns its shape."""

    def entering(module: nn.Module, inputs: tuple) -> None:
        if inputs and isinstance(inputs[0], Tensor) and _holds_steps(inputs[0], batch):
            modes = ", or functional.set_step_mode(net, 'm')" if getattr(module, "step_mode", None) == "s" else ""
            raise ValueError(
                f"this network takes single steps: pass forward=lambda net, batch: [net(x) for x in batch]{modes} "
                f"({type(module).__name__} takes one step per call and got the whole batch, {list(inputs[0].shape)})"
            )

    stepping = (module for module in net.modules() if _one_step(module) and (_spikes(module) or _delays(module)))
    handles = [module.register_forward_pre_hook(entering) for module in stepping]
    try:
        return net(batch)
    finally:
        for handle in handles:
            handle.remove()


def _holds_steps(current: Tensor, batch: Tensor) -> bool:
    """Whether ``current`` is of all steps ``[T, N, *]``; where T = N, a step ``[N, *]`` may look alike."""
    steps, samples = batch.shape[:2]
    return current.shape[:2] == batch.shape[:2] and (steps != samples or current.dim() >= batch.dim())


def _delays(module: nn.Module) -> bool:
    return isinstance(module, (DelayedSynapses, DelayedConvolution, DiscreteSynapses))


def _one_step(module: nn.Module) -> bool:
    if not (_spikes(module) or _feeds(module) or _delays(module)) or isinstance(module, EventPropSpiking):
        return False
    for framework in known():
        for options, one_step in ((framework.step, True), (framework.sequence, False)):
            if options and all(getattr(module, option, None) == value for option, value in options.items()):
                return one_step
    if isinstance(module, SaysSilence):
        return not module.takes_sequences
    return _spikes(module) and not type(module).__name__.startswith("State") and not hasattr(module, "state_fn")

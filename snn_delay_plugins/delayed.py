"""What the layers with delays of both frameworks share: parameters, and which form of the equations they run.

``delay_gradient=`` names the rule (:mod:`snn_delay_plugins.delays`) by which a weight and a delay become taps over time, in
training and in evaluation; the parameters are the same in both modes.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Self, Unpack, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .bounds import BoundMode
from .callers import user_level
from .checks import (
    check_choice,
    check_flag,
    check_number,
    check_sigma,
    check_spikes,
    check_whole,
    shape_alone,
    values_known,
)
from .delay_options import LinearOptions, with_defaults
from .delays import WHOLE, DelayRule, Interpolation, check_rule_options, rule_of, rules_of_whole_delays, rules_with_sigma
from .functional.inputs import (
    Padding,
    check_history,
    check_input,
    check_past,
    check_smoothing,
    compute_dtype,
    full_precision,
    padded_steps,
)
from .functional.sparse_delay import SynapseList, check_list_input, sparse_delayed_linear, synapse_list
from .functional.windows import (
    history_after,
    history_length,
    listed_convolution,
    smoothed_kernel,
    smoothed_taps,
    windowed_linear,
    windowed_linear_step,
)
from .initial_weights import firing_weight_
from .kernels import delay_line, dispatch
from .kernels.checks import FLOATS, check_synapse_indices
from .kernels.delay_line.dense import DenseSynapses
from .kernels.op_counts import counting
from .parameters import BoundedModule, DelayParameters, refuse_other_batch
from .quantisation import check_weight_bits, quantise_weight
from .transforms import exporting_to_onnx, transform

__all__ = ["DelayedSynapses", "DiscreteSynapses", "WindowedDelays", "connection_mask"]

_WIDE = 9
"""Taps of a synapse from which steps with synapses from all to all are faster over the whole kernel."""
_ORIGINS = ("_orig", "_g", "_v")
"""What torch's hooks that compute a parameter call those from which they do."""


def hold(module: nn.Module, name: str, value: Tensor | None) -> None:
    """Keep a buffer; where it is not there an attribute: torch 2.6 exports no module with a buffer of None."""
    if value is None:
        setattr(module, name, None)
    else:
        module.register_buffer(name, value)


class QuantisableWeights(nn.Module):
    """A layer whose frozen form may hold its weights in a few bits."""

    weight_bits: int | None = None
    weight_error: float | None = None
    """By what share of their norm the weights were changed."""

    def quantise(self, name: str, weight_bits: int | None) -> None:
        """Put the weights ``name`` in so many bits, and their step beside them."""
        if weight_bits is None:
            return
        weights = getattr(self, name)
        coarse = quantise_weight(weights, weight_bits)
        with torch.no_grad():
            weights.copy_(coarse.weight)
        self.register_buffer("weight_scale", coarse.scale)
        self.weight_bits, self.weight_error = check_weight_bits(weight_bits), coarse.error

    def extra_repr(self) -> str:
        if self.weight_bits is None or self.weight_error is None:
            return super().extra_repr()
        return f"weight_bits={self.weight_bits}, weight_error={100 * self.weight_error:.2g} %"


class WindowedDelays(QuantisableWeights, BoundedModule):
    """A layer with ``weight``, ``delay``, ``max_delay``, and the rule ``delay_rule`` with its further parameters."""

    weight: Tensor
    delay: Tensor
    bias: Tensor | None
    sigma: Tensor
    max_delay: int
    interpolation: Interpolation
    learn_delay: bool
    learn_sigma: bool
    delay_rule: DelayRule

    @property
    def delay_gradient(self) -> str:
        """The name of the rule by which the delays are learned."""
        return self.delay_rule.name

    @property
    def has_sigma(self) -> bool:
        """Whether the windows have a width that can be set."""
        return "sigma" in self.delay_rule.parameters

    def create_rule_parameters(self, sigma: float | None, learn: bool, sigma_type: str, bound_mode: BoundMode) -> None:
        """Create the further parameters of ``delay_rule``, shared or one per synapse, buffers or bounded parameters."""
        shapes, rule = {"shared": (), "synaptic": self.weight.shape}, self.delay_rule
        start = rule.initial_values(self.max_delay)
        if transform() is None and not rule.check_window(self.max_delay, start) and self.learn_delay:
            warnings.warn(
                f"rule {rule.name!r} gives the delays no gradient: they stay as they are. Let its taps depend on "
                "the delay, or say learn_delay=False",
                stacklevel=user_level(),
            )
        for name, parameter in rule.parameters.items():
            given = sigma if name == "sigma" else None
            value = start[name] if given is None else check_sigma(given)
            initial = torch.full(shapes[check_choice("sigma_type", sigma_type, sorted(shapes))], value)
            if learn:
                setattr(self, name, nn.Parameter(initial))
                self.bound(name, parameter.low, max(value, parameter.high(self.max_delay)), mode=bound_mode)
            else:
                self.register_buffer(name, initial)

    @property
    def active_rule(self) -> DelayRule:
        """The rule of this mode, training or evaluation."""
        return self.delay_rule if self.training else self.delay_rule.in_evaluation()

    def rule_values(self, rule: DelayRule) -> dict[str, Tensor]:
        """The further parameters of ``rule`` by name."""
        return {name: self.bounded(name) for name in rule.parameters}

    def initial_kernel(self) -> Tensor | None:
        """Over which steps the layer spreads a spike in training, at the start and at the mean delay; None: over none."""
        means = {name: getattr(self, name).detach().mean() for name in self.delay_rule.parameters}
        return self.delay_rule.spread(self.delay.detach().mean()[None], self.max_delay, means)

    def set_sigma(self, sigma: float) -> None:
        """Set every sigma, as an annealing schedule does (:mod:`snn_delay_plugins.schedules`).

        :raises ValueError: if sigma is not a positive number, or the layer has none.
        """
        if not self.has_sigma:
            raise ValueError(f"only layers with {rules_with_sigma()} have a sigma")
        with torch.no_grad():
            self.sigma.fill_(check_sigma(sigma))

    def shrink_max_delay(self, spare: int = 0) -> int:
        """Lower ``max_delay`` to what the windows of this mode reach now: outputs stay the same, histories get shorter, and
        kernels over all lags cost less. Windows that narrow reach far at first: shrink in evaluation.

        :param spare: steps by which delays may still grow. :returns: the new ``max_delay``, never more than before.
        :raises RuntimeError: while spikes are on their way, which keep a history of the old length.
        :raises ValueError: for a rule whose taps depend on ``max_delay`` itself, as levels that divide it do.

        Example::

            >>> from snn_delay_plugins.delayed import DelayedSynapses
            >>> layer = DelayedSynapses()
            >>> layer.create_synapses(8, 4, bias=True, max_delay=60, delay=6.5)
            >>> layer.shrink_max_delay(), layer.parameter_bounds["delay"]
            (7, (0.0, 7.0))
        """
        spare = check_whole("spare", spare)
        if isinstance(getattr(self, "history", None), Tensor):
            raise RuntimeError("max_delay cannot shrink while spikes are on their way: reset the network before")
        with torch.no_grad():
            weight, delay, rule = self.weight.detach(), self.bounded("delay"), self.active_rule
            mask: Tensor | None = getattr(self, "mask", None)
            exists = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask
            values = self.rule_values(rule)
            kernel = torch.where(exists, rule.over_lags(weight, delay, self.max_delay, values), 0)
            reached = kernel.flatten(1).any(1).nonzero()
            longest = int(torch.where(exists, delay.expand_as(weight), 0).max().ceil())
            shorter = min(self.max_delay, max(int(reached.max()) - 1 if len(reached) else 0, longest) + spare)
            kept = torch.where(exists, rule.over_lags(weight, delay.clamp(max=shorter), shorter, values), 0)
            rows = min(len(kernel), len(kept))
            if (kept[:rows] - kernel[:rows]).norm() > 1e-3 * kernel.norm():  # ends of windows that are below rounding
                raise ValueError(
                    f"the taps of rule {rule.name!r} depend on max_delay itself: with max_delay={shorter} in the place of "
                    f"{self.max_delay} the layer would compute something else"
                )
            self.max_delay = shorter
            self.bound("delay", 0.0, shorter, mode=cast("BoundMode", self._bound_modes["delay"]))
            self.delay.clamp_(max=shorter)  # of synapses that do not exist
        delay_line.values_changed()
        return self.max_delay

    def whole_delay(self, weight: Tensor) -> Tensor:
        """The whole delays that stand for the windows in deployment. Warns, saying how much, where a layer with one tap at
        these computes something else than in evaluation."""
        rule, delay = self.delay_rule.in_evaluation(), self.bounded("delay").detach()
        weight, delay = weight.detach().double(), delay.double().expand_as(weight)
        whole = rule.whole_delays(delay, self.max_delay)
        values = {name: value.detach().double() for name, value in self.rule_values(rule).items()}
        taps, lags = rule.windows(weight, delay, self.max_delay, values)
        lag = torch.arange(taps.shape[0], device=lags.device).view(-1, *[1] * weight.dim()) + lags
        changed = (taps - weight * (lag == whole)).square().sum(0)
        moved = changed > 0
        if moved.any():
            share = (changed.sum() / taps.square().sum()).sqrt().item()
            how = f"with {self.interpolation!r} interpolation" if rule.interpolations else f"by the rule {rule.name!r}"
            warnings.warn(
                f"discretize() rounds the delays, but this layer evaluates them {how}: {int(moved.sum())} of "
                f"{weight.numel()} synapses change, their kernels by {100 * share:.0f} % (norm), and with them the "
                "outputs. Exact are layers trained with interpolation='round' (snnTorch: kernel='round') or "
                f"{rules_of_whole_delays()}; or round the delays and go on training the weights before discretizing",
                stacklevel=user_level(),
            )
        return whole

    def effective_weight(self) -> Tensor:
        """The weights of the synapses that exist, zero elsewhere."""
        return self.weight

    def with_whole_delays(self, weight_bits: int | None = None) -> Self:
        """A frozen copy with whole delays, and weights of so many bits; the states of its front door are still there."""
        whole = self.whole_delay(self.effective_weight())
        frozen = copy.deepcopy(self).requires_grad_(False)
        with torch.no_grad():
            frozen.delay.copy_(whole[tuple(map(slice, frozen.delay.shape))])  # those of a neuron are equal
        frozen.delay_rule, frozen.interpolation, frozen.learn_delay = WHOLE, "round", False
        frozen.quantise("weight", weight_bits)
        return frozen

    def __setstate__(self, state: dict) -> None:
        former = state.get("delay_gradient")  # of a layer that was pickled before there were rules: their name alone
        if former is not None:
            state = {name: value for name, value in state.items() if name != "delay_gradient"}
            state["delay_rule"] = rule_of(former, state["interpolation"])
        super().__setstate__(state)

    def _load_from_state_dict(self, *args) -> None:
        super()._load_from_state_dict(*args)
        delay_line.values_changed()

    def line_key(self, spikes: Tensor, names: tuple[str, ...]) -> tuple[tuple, tuple]:
        """What the currents on their way depend on beside the spikes: with another key a new line begins. And the tensors
        behind it: the values of ``names``, or what these are computed from."""
        held, computed = tuple([getattr(self, name) for name in names]), ()
        if "parametrizations" in self._modules or self._forward_pre_hooks:
            held, computed = self._origins(dict(zip(names, held, strict=True)))
        bounds = (*self._bounds.items(), *self._bound_modes.items())
        return (spikes.dtype, self.training, bounds, *delay_line.key_of(held, computed)), held

    def _origins(self, values: dict[str, Tensor | None]) -> tuple[tuple, tuple]:
        """Tensors that the values are, or are computed from; and those values that are computed anew at every access
        (``torch.nn.utils.parametrizations``) or call (``torch.nn.utils.prune``)."""
        held, computed = [], []
        parametrized: Any = self._modules.get("parametrizations", ())
        for name, value in values.items():
            if name in parametrized:
                origins = tuple(parametrized[name].parameters())
            else:
                origins = tuple(self._parameters[name + end] for end in _ORIGINS if name + end in self._parameters)
            if origins or name in parametrized:
                held += origins
                computed.append(delay_line.Computed(cast(Tensor, value), name))
            else:
                held.append(value)
        return tuple(held), tuple(computed)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, (super().extra_repr(), f"delay_gradient={self.delay_gradient!r}")))


class DelayedSynapses(WindowedDelays, DelayParameters):
    """A weight and a delay per synapse, perhaps only some synapses per neuron; without any state."""

    mask: Tensor | None
    smoothing: Tensor | None
    padding: Padding
    _sequence_form: str  # what a user calls for sequences

    def create_synapses(
        self, in_features: int, out_features: int, bias: bool, *, interpolation: Interpolation = "linear",
        **options: Unpack[LinearOptions],
    ) -> None:  # fmt: skip
        """Create ``weight``, ``bias`` and ``delay``, the further parameters of the delay rule (buffers, or parameters with
        ``learn_sigma``), and for sparse connections ``mask``; called once by a layer's constructor."""
        given = with_defaults(LinearOptions, options)
        smoothing = given.smoothing
        padded_steps(given.padding, 0)
        if smoothing is not None:
            check_smoothing(smoothing)
        rule, self.learn_sigma = rule_of(given.delay_gradient, interpolation), check_flag("learn_sigma", given.learn_sigma)
        check_rule_options(rule, sigma=given.sigma, learn_sigma=self.learn_sigma, smoothing=smoothing)
        self.create_delay_parameters(
            in_features, out_features, bias, given.max_delay, given.delay, given.delay_type, given.learn_delay,
            given.bound_mode,
        )  # fmt: skip
        self.delay_rule, self.interpolation = rule, interpolation
        self.padding = given.padding or "same"
        if smoothing is not None and values_known(smoothing) and not bool(smoothing.isfinite().all()):
            raise ValueError(f"smoothing must be finite, got {smoothing.tolist()}")
        hold(self, "smoothing", smoothing)
        self.create_rule_parameters(given.sigma, self.learn_sigma, given.sigma_type, given.bound_mode)
        hold(self, "mask", connection_mask(self.out_features, self.in_features, given.synapses, given.density))
        firing_weight_(self.weight, self.mask, self.initial_kernel() if smoothing is None else smoothing)

    @property
    def lengthened_by(self) -> str:
        """The option that makes sequences longer, with its value; empty if none does."""
        return "" if self.padding == "same" else f"padding={self.padding!r}"

    def effective_weight(self) -> Tensor:
        """The weights of the synapses that exist, zero elsewhere."""
        if self.mask is not None and exporting_to_onnx():  # torch 2.11 translates no product with a bool
            return self.weight.masked_fill(~self.mask, 0.0)
        return self.weight if self.mask is None else self.weight * self.mask

    def sequence_currents(self, spikes: Tensor, history: Tensor | None = None, support: Tensor | None = None) -> Tensor:
        """Input currents of a sequence ``[T, N, in]``. ``support``: where the gradient of the spikes has an effect; where
        that is of no use (few synapses) it is computed everywhere."""
        if self.mask is not None and self.smoothing is None:
            current = self._sparse_currents(spikes, history, self.mask)
            if current is not None:
                return current
        return windowed_linear(
            spikes, self.effective_weight(), self.bounded("delay"), self.bias, padding=self.padding, history=history,
            support=support, **self._window_options(),
        )  # fmt: skip

    def _window_options(self) -> dict:
        rule = self.active_rule
        return {
            "rule": rule,
            "parameters": self.rule_values(rule),
            "max_delay": self.max_delay,
            "smoothing": self.smoothing,
        }

    def _sparse_currents(self, spikes: Tensor, history: Tensor | None, mask: Tensor) -> Tensor | None:
        """The same over the synapses that exist alone; None where computing with all possible ones is faster."""
        check_input(spikes, self.weight, self.bias, steps=True)
        compute = compute_dtype(spikes, self.weight)
        if not (values_known(mask) and dispatch.sparse_training(spikes, compute, mask)):
            return None
        receivers, senders = mask.nonzero(as_tuple=True)
        with full_precision(spikes):
            taps, lags = self._windows_of(lambda value: value.expand_as(self.weight)[mask].to(compute), compute)
            before = 0
            if history is not None:
                spikes, before = torch.cat([history.flip(0), spikes]), history.shape[0]
            current = listed_convolution(
                spikes.to(compute),
                taps,
                lags,
                senders,
                receivers,
                self.out_features,
                after=padded_steps(self.padding, self.max_delay),
            )[before:]
            if self.bias is not None:
                current = current + self.bias.to(compute)
        return current.to(spikes.dtype)

    def step_currents(self, spikes: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """Input currents of one step ``[N, in]``, and the history, newest first, for the next one."""
        refuse_sequence(spikes, (self.in_features,), self._sequence_form)
        if torch.compiler.is_compiling():  # one operator, where there is one for sequences
            sequence = spikes[None]
            return self.sequence_currents(sequence, history)[0], self.history_after(sequence, history)
        form = dispatch.delay_line(spikes)
        if form is not None:
            if "parametrizations" not in self._modules:
                return self._step_on_line(spikes, history, form)
            with parametrize.cached():  # computed once, however often it is read
                return self._step_on_line(spikes, history, form)
        synapses = self.effective_weight(), self.bounded("delay")
        return windowed_linear_step(spikes, history, *synapses, self.bias, **self._window_options())

    def _step_on_line(self, spikes: Tensor, history: Tensor | None, form: str) -> tuple[Tensor, Tensor]:
        """The same over a line of currents on their way, which is begun where there is none to go on with."""
        key, held = self.line_key(spikes, ("weight", "delay", "bias", "mask", "smoothing", *self.delay_rule.parameters))
        state = delay_line.state_of(history, key, spikes)
        if state is None:
            check_input(spikes, self.weight, self.bias, steps=False)
            if history is None:
                history = delay_line.silent_history(spikes, self.history_length)
            else:
                check_history(history, self.history_length, spikes)
            synapses = self._line_synapses(compute_dtype(spikes, self.weight), form)
            state = delay_line.begin(delay_line.Line(synapses, self.bias, history, key, held), history)
        assert history is not None  # there is no state without
        return delay_line.step(spikes, history, state)

    def _line_synapses(self, compute: torch.dtype, form: str):
        with torch.autocast(self.weight.device.type, enabled=False):
            if form == "listed" and (counting() or self._few_synapses or self._width(compute) < _WIDE):
                from .kernels.delay_line.listed import ListedSynapses

                return ListedSynapses(*self._listed(compute), self.out_features, self.max_delay)
            weight, delay, rule = self.effective_weight().to(compute), self.bounded("delay").to(compute), self.active_rule
            kernel = smoothed_kernel(rule.over_lags(weight, delay, self.max_delay, self.rule_values(rule)), self.smoothing)
            if form == "listed":
                from .kernels.delay_line.spectral import SpectralSynapses

                return SpectralSynapses(kernel)
            return DenseSynapses(kernel)

    @property
    def _few_synapses(self) -> bool:
        return self.mask is not None and int(self.mask.sum()) <= dispatch.SPARSE_BELOW * self.mask.numel()

    def _width(self, compute: torch.dtype) -> int:
        """Taps of the widest window."""
        rule, later = self.active_rule, 0 if self.smoothing is None else self.smoothing.numel() - 1
        if rule.width is not None:
            return rule.width + later
        with torch.no_grad():
            widest = {name: value.max().to(compute) for name, value in self.rule_values(rule).items()}
            one = torch.ones(1, dtype=compute, device=self.weight.device)
            mean = self.bounded("delay").mean()[None].to(compute)
            return rule.windows(one, mean, self.max_delay, widest).taps.shape[0] + later

    def _windows_of(self, of_synapses: Callable[[Tensor], Tensor], compute: torch.dtype) -> tuple[Tensor, Tensor]:
        """Taps ``[synapses, width]`` and first lags of the synapses that ``of_synapses`` takes out of ``[out, in]``."""
        rule = self.active_rule
        values = {
            name: value.to(compute) if value.dim() == 0 else of_synapses(value)
            for name, value in self.rule_values(rule).items()
        }
        synapses = of_synapses(self.weight), of_synapses(self.bounded("delay"))
        taps, lags = rule.windows(*synapses, self.max_delay, values)
        return taps.mT, lags

    def _listed(self, compute: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Taps ``[synapses, width]``, first lags, starts and receivers of the synapses, ordered by sender."""
        exists = torch.ones_like(self.weight, dtype=torch.bool) if self.mask is None else self.mask
        senders, receivers = exists.mT.nonzero(as_tuple=True)
        starts = F.pad(exists.sum(0).cumsum(0), (1, 0))

        def of_synapses(value: Tensor) -> Tensor:
            value = value.to(compute).expand_as(self.weight)
            return value.mT.flatten() if self.mask is None else value[receivers, senders]

        taps, lags = self._windows_of(of_synapses, compute)
        if self.smoothing is not None:
            taps = smoothed_taps(taps, self.smoothing)
        return taps, lags.int(), starts, receivers.int()

    @property
    def history_length(self) -> int:
        return history_length(self.max_delay, self.smoothing)

    def history_after(self, spikes: Tensor, history: Tensor | None) -> Tensor:
        """The history that the next call needs after ``spikes`` ``[T, N, in]``."""
        return history_after(spikes, history, self.max_delay, self.smoothing)

    def discrete_synapses(self) -> SynapseList:
        """The synapses that exist, with whole delays."""
        if self.smoothing is not None:
            raise ValueError("a smoothing kernel spreads every spike over several steps: there is no discrete form")
        if shape_alone(self.weight):
            raise RuntimeError(
                "a list of synapses needs the values of the weights: load them first (to_empty() and load_state_dict())"
            )
        whole = self.whole_delay(self.effective_weight())
        return synapse_list(self.weight, whole, self.max_delay, self.mask)

    def extra_repr(self) -> str:
        known = self.mask is not None and values_known(self.mask)
        sparse = "" if self.mask is None else f", synapses={int(self.mask.sum()) if known else '?'}"
        return super().extra_repr() + sparse


class DiscreteSynapses(QuantisableWeights):
    """A frozen layer with one whole delay per synapse, for deployment: buffers alone, over a list of the synapses that
    exist, so that memory and time shrink with their number (:mod:`snn_delay_plugins.functional.sparse_delay`)."""

    starts: Tensor
    targets: Tensor
    delays: Tensor
    weights: Tensor
    bias: Tensor | None
    padding: Padding
    _sequence_form: str  # what a user calls for sequences

    @property
    def lengthened_by(self) -> str:
        """The option that makes sequences longer, with its value; empty if none does."""
        return "" if self.padding == "same" else f"padding={self.padding!r}"

    def check_batch(self, history: Tensor | None, spikes: Tensor, remedy: str) -> None:
        """Refuse spikes ``[..., N, in]`` of another batch size than the ``history`` ``[H, N, in]`` of earlier ones."""
        refuse_other_batch(history, spikes, -2, remedy)

    def take_synapses(self, layer: DelayedSynapses, weight_bits: int | None = None) -> None:
        """Take over the sizes and the rounded synapses of ``layer``; called once by the constructor."""
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.max_delay, self.padding = layer.max_delay, layer.padding
        for name, value in layer.discrete_synapses()._asdict().items():
            self.register_buffer(name, value.clone())
        self.quantise("weights", weight_bits)
        hold(self, "bias", None if layer.bias is None else layer.bias.detach().clone())

    @property
    def synapses(self) -> SynapseList:
        return SynapseList(self.starts, self.targets, self.delays, self.weights)

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, strict: bool, missing_keys: list,
        unexpected_keys: list, error_msgs: list,
    ) -> None:  # fmt: skip
        """Synapses that do not fit are refused, all parts of them together: the layer stays as it was."""
        present = {name: getattr(self, name) for name in (*SynapseList._fields, "bias")}
        stored = {name: state_dict.get(prefix + name, value) for name, value in present.items() if value is not None}
        try:
            for name, value in stored.items():
                _check_stored(name, value, present[name], local_metadata.get("assign_to_params_buffers", False))
            if not any(value.is_meta for value in stored.values()):
                starts, targets, delays = (stored[name].long() for name in ("starts", "targets", "delays"))
                check_synapse_indices(starts, targets, delays, self.out_features, self.max_delay)
        except (TypeError, ValueError) as error:
            layer = f"{type(self).__name__} {prefix.rstrip('.')!r}" if prefix else type(self).__name__
            error_msgs.append(f"{layer} keeps the synapses that it had: {error}")
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        delay_line.values_changed()

    def sequence_currents(self, spikes: Tensor, padding: Padding | None = None, history: Tensor | None = None) -> Tensor:
        """Input currents of a sequence ``[T, N, in]``, after the spikes of ``history``, newest first."""
        before = 0
        if history is not None:
            check_list_input(spikes, self.synapses, self.out_features, self.bias, dims=3)
            check_past(history, spikes)
            spikes, before = torch.cat([history.flip(0), spikes]), history.shape[0]
        padding = self.padding if padding is None else padding
        return sparse_delayed_linear(
            spikes, self.synapses, self.out_features, self.bias, max_delay=self.max_delay, padding=padding
        )[before:]

    def step_currents(self, spikes: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """Input currents of one step ``[N, in]``, and the history, newest first, for the next one."""
        check_spikes(spikes)
        refuse_sequence(spikes, (self.in_features,), self._sequence_form)
        with torch.no_grad():
            if torch.compiler.is_compiling() or dispatch.delay_line(spikes) != "listed" or spikes.dtype not in FLOATS:
                return self._plain_step(spikes, history)
            return self._step_on_line(spikes, history)

    def _step_on_line(self, spikes: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        from .kernels.delay_line.listed import ListedSynapses

        held = (*self.synapses, self.bias)
        key = (spikes.dtype, *delay_line.key_of(held))
        state = delay_line.state_of(history, key, spikes)
        if state is None:
            check_list_input(spikes, self.synapses, self.out_features, self.bias, dims=2)
            history = self._history_for(spikes, history)
            synapses = ListedSynapses(
                self.weights[:, None], self.delays, self.starts, self.targets, self.out_features, self.max_delay
            )
            state = delay_line.begin(delay_line.Line(synapses, self.bias, history, key, held), history)
        assert history is not None  # there is no state without
        return delay_line.step(spikes, history, state)

    def _check_synapses(self) -> None:
        """Refuse indices that do not fit, as the lists of the compiled loops do: below zero they would count from the end.
        On accelerators, which a look at values holds up, only those that torch has seen change."""
        key = delay_line.key_of(self.synapses)
        if self.delays.is_cpu or _fitting.get(self) != key:
            check_synapse_indices(self.starts, self.targets, self.delays, self.out_features, self.max_delay)
            _fitting[self] = key

    def _plain_step(self, spikes: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        check_list_input(spikes, self.synapses, self.out_features, self.bias, dims=2)
        if values_known(self.delays) and not torch.jit.is_tracing():
            self._check_synapses()
        recent = torch.cat([spikes[None], self._history_for(spikes, history)])
        senders = torch.repeat_interleave(self.starts.diff(), output_size=self.weights.numel())
        arriving = recent.transpose(1, 2)[self.delays.long(), senders] * self.weights[:, None]  # [synapses, N]
        current = spikes.new_zeros(self.out_features, spikes.shape[0]).index_add(0, self.targets.long(), arriving).mT
        return current if self.bias is None else current + self.bias, recent[:-1]

    def _history_for(self, spikes: Tensor, history: Tensor | None) -> Tensor:
        if history is None:
            return delay_line.silent_history(spikes, self.max_delay + 1)
        check_history(history, self.max_delay + 1, spikes)
        return history

    def history_after(self, spikes: Tensor, history: Tensor | None) -> Tensor:
        """The history that the next call needs after ``spikes`` ``[T, N, in]``."""
        return history_after(spikes.detach(), history, self.max_delay)  # as its currents, without a graph

    def extra_repr(self) -> str:
        sizes = (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"max_delay={self.max_delay}, synapses={self.weights.numel()}"
        )
        return ", ".join(filter(None, (sizes, super().extra_repr())))


def refuse_sequence(spikes: Tensor, neurons: tuple[object, ...], remedy: str) -> None:
    """
    :param neurons: the axes ``*`` of a step ``[N, *]``. :param remedy: what takes sequences.
    :raises ValueError: for spikes ``[T, N, *]``, where a step is expected.
    """
    if isinstance(spikes, Tensor) and spikes.dim() == len(neurons) + 2:
        axes = ", ".join(str(axis) for axis in neurons)
        raise ValueError(
            f"spikes must be [N, {axes}], got shape {tuple(spikes.shape)}; for a sequence [T, N, {axes}]: {remedy}"
        )


_fitting: weakref.WeakKeyDictionary[DiscreteSynapses, tuple] = weakref.WeakKeyDictionary()
"""What the synapses that were found to fit are known by."""


def _check_stored(name: str, value: Tensor, present: Tensor, assign: bool) -> None:
    """Whether a buffer can take a value from a state dict: copying would round numbers, and ``assign`` takes any dtype.

    :raises TypeError, ValueError: if not.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if value.shape != present.shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)} but the layer needs {tuple(present.shape)}")
    if present.is_floating_point():
        fits = value.is_floating_point()
    else:
        fits = value.dtype == present.dtype if assign else not (value.is_floating_point() or value.is_complex())
    if not fits:
        raise TypeError(f"{name} must be {present.dtype}, got {value.dtype}")


def connection_mask(
    out_features: int, in_features: int, synapses: int | None = None, density: float | None = None
) -> Tensor | None:
    """Which synapses exist, bool ``[out, in]``, drawn from torch's global generator; ``None``: all of them.

    Every neuron has the same number of synapses, from different senders (Hammouamri et al., section 4.3).

    :param synapses: synapses per neuron. :param density: the same as a share of the senders, at least one.
    :raises ValueError: if both are given, or there are not that many senders.

    Example::

        >>> connection_mask(3, 8, synapses=2).sum(1).tolist()
        [2, 2, 2]
    """
    if synapses is None and density is None:
        return None
    if synapses is not None and density is not None:
        raise ValueError("give synapses (a number per neuron) or density (a share), not both")
    if density is not None:
        density = check_number("density", density)
        if not 0 < density <= 1:
            raise ValueError(f"density must lie in (0, 1], got {density}")
        synapses = max(1, round(density * in_features))
    synapses = check_whole("synapses", synapses, least=1, most=in_features, unit="senders per neuron")
    chosen = torch.rand(out_features, in_features).topk(synapses, dim=1).indices
    return torch.zeros(out_features, in_features, dtype=torch.bool).scatter_(1, chosen, True)

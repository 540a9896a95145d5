"""What the layers with delays of both frameworks share: parameters, and which form of the equations they run.

``delay_gradient="slayer"``: delays between whole steps, learned by the SLAYER rule (Deckers et al.), the same in
training and evaluation: :mod:`snn_delay_plugins.functional.delay`.

``delay_gradient="gaussian"``: in training a Gaussian of standard deviation sigma around every delay, in evaluation one
tap at the rounded delay (Hammouamri et al., Eq. 9 and Eq. 7): :mod:`snn_delay_plugins.functional.dcls`. The parameters
are the same in both modes.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from .checks import check_choice, check_flag, check_number, check_sigma, check_whole, shape_alone, values_known
from .functional.dcls import (
    SMALLEST_SIGMA,
    gaussian_delayed_linear,
    gaussian_delayed_linear_step,
    rounded_delayed_linear_step,
)
from .functional.delay import (
    check_delay_options,
    check_input,
    compute_dtype,
    delayed_linear,
    delayed_linear_step,
    full_precision,
    history_after,
    padded_steps,
)
from .functional.sparse_delay import SynapseList, sparse_delayed_linear, sparse_delayed_linear_step, synapse_list
from .functional.sparse_taps import delay_window, gaussian_window, sparse_convolution
from .kernels import dispatch
from .parameters import BoundedModule, DelayParameters
from .transforms import check_left_behind

__all__ = ["DELAY_GRADIENTS", "DelayedSynapses", "DiscreteSynapses", "GaussianDelays", "connection_mask"]

DELAY_GRADIENTS = ("slayer", "gaussian")
IN_ORDER = -1
"""The slot of a history that is newest first: a ring buffer whose last entry is written next."""


class GaussianDelays(BoundedModule):
    """A layer with ``weight``, ``max_delay``, ``delay_gradient`` and, if that is ``"gaussian"``, ``sigma``."""

    def create_sigma(self, sigma: float | None, learn: bool, sigma_type: str, bound_mode: str) -> None:
        """Create ``sigma``, shared or one per synapse, a buffer or a parameter of at least 0.27."""
        shapes = {"shared": (), "synaptic": self.weight.shape}
        smallest = SMALLEST_SIGMA["gauss"]
        value = (self.max_delay + 1) // 2 + smallest if sigma is None else check_sigma(sigma)
        initial = torch.full(shapes[check_choice("sigma_type", sigma_type, sorted(shapes))], value)
        if learn:
            self.sigma = nn.Parameter(initial)
            self.bound("sigma", smallest, max(value, self.max_delay + 1.0), mode=bound_mode)
        else:
            self.register_buffer("sigma", initial)

    def set_sigma(self, sigma: float) -> None:
        """Set every sigma, as an annealing schedule does (:mod:`snn_delay_plugins.schedules`).

        :raises ValueError: if sigma is not a positive number, or the layer has none.
        """
        if self.delay_gradient != "gaussian":
            raise ValueError('only layers with delay_gradient="gaussian" have a sigma')
        with torch.no_grad():
            self.sigma.fill_(check_sigma(sigma))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, delay_gradient={self.delay_gradient!r}"


class DelayedSynapses(GaussianDelays, DelayParameters):
    """A weight and a delay per synapse, perhaps only some synapses per neuron; without any state."""

    def create_synapses(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        *,
        max_delay: int,
        delay: float | str | Tensor,
        delay_type: str,
        learn_delay: bool,
        bound_mode: str,
        delay_gradient: str,
        interpolation: str,
        padding: str | int,
        smoothing: Tensor | None,
        sigma: float | None,
        learn_sigma: bool,
        sigma_type: str,
        synapses: int | None,
        density: float | None,
    ) -> None:
        """Create ``weight``, ``bias`` and ``delay``, with ``delay_gradient="gaussian"`` ``sigma`` (a buffer, or a
        parameter with ``learn_sigma``), and for sparse connections ``mask``; called once by a layer's constructor."""
        check_delay_options(interpolation, padding, smoothing)
        check_choice("delay_gradient", delay_gradient, DELAY_GRADIENTS)
        learn_sigma = check_flag("learn_sigma", learn_sigma)
        self.create_delay_parameters(
            in_features, out_features, bias, max_delay, delay, delay_type, learn_delay, bound_mode
        )
        self.delay_gradient, self.interpolation = delay_gradient, interpolation
        self.padding = padding or "same"
        if smoothing is not None and values_known(smoothing) and not bool(smoothing.isfinite().all()):
            raise ValueError(f"smoothing must be finite, got {smoothing.tolist()}")
        self.register_buffer("smoothing", smoothing)
        self.learn_sigma = learn_sigma
        if delay_gradient == "gaussian":
            if smoothing is not None or interpolation != "linear":
                raise ValueError('smoothing and interpolation belong to delay_gradient="slayer"')
            self.create_sigma(sigma, learn_sigma, sigma_type, bound_mode)
        elif sigma is not None or learn_sigma:
            raise ValueError('sigma belongs to delay_gradient="gaussian"')
        self.register_buffer("mask", connection_mask(out_features, in_features, synapses, density))
        if self.mask is not None:
            with torch.no_grad():
                self.weight.mul_(self.mask)

    def effective_weight(self) -> Tensor:
        """The weights of the synapses that exist, zero elsewhere."""
        return self.weight if self.mask is None else self.weight * self.mask

    def sequence_currents(
        self, spikes: Tensor, history: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        """Input currents of a sequence ``[T, N, in]``. ``support``: where the gradient of the spikes has an effect; where
        that is of no use (Gaussian delays, few synapses) it is computed everywhere."""
        if self.mask is not None and self.smoothing is None:
            current = self._sparse_currents(spikes, history)
            if current is not None:
                return current
        synapses = self.effective_weight(), self.bounded("delay")
        options = {"max_delay": self.max_delay, "padding": self.padding, "history": history}
        if self._gaussian:
            return gaussian_delayed_linear(spikes, *synapses, self.bounded("sigma"), self.bias, **options)
        return delayed_linear(spikes, *synapses, self.bias, support=support, **options, **self._kernel)

    def _sparse_currents(self, spikes: Tensor, history: Tensor | None) -> Tensor | None:
        """The same over the synapses that exist alone; None where computing with all possible ones is faster."""
        check_input(spikes, self.weight, self.bias, steps=True)
        compute = compute_dtype(spikes, self.weight)
        if not (values_known(self.mask) and dispatch.sparse_training(spikes, compute, self.mask)):
            return None
        receivers, senders = self.mask.nonzero(as_tuple=True)
        with full_precision(spikes):
            delay = self.bounded("delay").expand_as(self.weight)
            weight, delay = (value[self.mask].to(compute) for value in (self.weight, delay))
            if self._gaussian:
                sigma = self.bounded("sigma")
                sigma = sigma if sigma.dim() == 0 else sigma[self.mask]
                kernel, lag = gaussian_window(weight, delay, sigma.to(compute), self.max_delay)
            else:
                kernel, lag = delay_window(weight, delay, self.max_delay, self._kernel["interpolation"])
            before = 0
            if history is not None:
                spikes, before = torch.cat([history.flip(0), spikes]), history.shape[0]
            current = sparse_convolution(spikes.to(compute), kernel, lag, senders, receivers, self.out_features,
                                         after=padded_steps(self.padding, self.max_delay))[before:]
            if self.bias is not None:
                current = current + self.bias.to(compute)
        return current.to(spikes.dtype)

    def step_currents(
        self, spikes: Tensor, history: Tensor | None, slot: int = IN_ORDER
    ) -> tuple[Tensor, Tensor, int]:
        """Input currents of one step ``[N, in]``, and the history and the slot for the next one.

        Without gradients the discrete kernel of Gaussian delays keeps the history as a ring buffer, changed in place,
        whose entry ``slot`` is written next. Everywhere else it is newest first, and the slot is ``IN_ORDER``.
        """
        synapses = self.effective_weight(), self.bounded("delay")
        if self.delay_gradient == "gaussian" and not self.training and not torch.is_grad_enabled():
            if history is None:
                history = spikes.new_zeros(self.max_delay + 1, *spikes.shape)
            elif slot == IN_ORDER:
                history = history.clone()  # the caller may hold it
            slot %= history.shape[0]
            current = rounded_delayed_linear_step(spikes, history, slot, *synapses, self.bias)
            return current, history, (slot - 1) % history.shape[0]
        history, options = in_order(history, slot), {"max_delay": self.max_delay}
        if self._gaussian:
            synapses += (self.bounded("sigma"), self.bias)
            return *gaussian_delayed_linear_step(spikes, history, *synapses, **options), IN_ORDER
        return *delayed_linear_step(spikes, history, *synapses, self.bias, **options, **self._kernel), IN_ORDER

    def history_after(self, spikes: Tensor, history: Tensor | None) -> Tensor:
        """The history that the next call needs after ``spikes`` ``[T, N, in]``."""
        return history_after(spikes, history, self.max_delay, self.smoothing)

    @property
    def _gaussian(self) -> bool:
        return self.delay_gradient == "gaussian" and self.training

    @property
    def _kernel(self) -> dict:
        """One tap per synapse in evaluation of Gaussian delays (Eq. 7), else as chosen."""
        interpolation = "round" if self.delay_gradient == "gaussian" else self.interpolation
        return {"interpolation": interpolation, "smoothing": self.smoothing}

    def discrete_synapses(self) -> SynapseList:
        """The synapses that exist, with their delays rounded."""
        if self.smoothing is not None:
            raise ValueError("a smoothing kernel spreads every spike over several steps: there is no discrete form")
        if shape_alone(self.weight):
            raise RuntimeError("a list of synapses needs the values of the weights: load them first (to_empty() and "
                               "load_state_dict())")
        return synapse_list(self.weight, self.bounded("delay"), self.max_delay, self.mask)

    def extra_repr(self) -> str:
        known = self.mask is not None and values_known(self.mask)
        sparse = "" if self.mask is None else f", synapses={int(self.mask.sum()) if known else '?'}"
        return super().extra_repr() + sparse


class DiscreteSynapses(nn.Module):
    """A frozen layer with one whole delay per synapse, for deployment: buffers alone, over a list of the synapses that
    exist, so that memory and time shrink with their number (:mod:`snn_delay_plugins.functional.sparse_delay`)."""

    def take_synapses(self, layer: DelayedSynapses) -> None:
        """Take over the sizes and the rounded synapses of ``layer``; called once by the constructor."""
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.max_delay, self.padding = layer.max_delay, layer.padding
        for name, value in layer.discrete_synapses()._asdict().items():
            self.register_buffer(name, value.clone())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().clone())

    @property
    def synapses(self) -> SynapseList:
        return SynapseList(self.starts, self.targets, self.delays, self.weights)

    def sequence_currents(self, spikes: Tensor, padding: str | int | None = None) -> Tensor:
        """Input currents of a sequence ``[T, N, in]``."""
        padding = self.padding if padding is None else padding
        return sparse_delayed_linear(
            spikes, self.synapses, self.out_features, self.bias, max_delay=self.max_delay, padding=padding
        )

    def step_currents(self, spikes: Tensor, pending: Tensor | None, now: int) -> tuple[Tensor, Tensor, int]:
        """Input currents of one step ``[N, in]``; the ring of those to come (changed in place), and its next entry."""
        check_left_behind(pending)
        if pending is None:
            pending = spikes.new_zeros(self.max_delay + 1, spikes.shape[0], self.out_features)
        elif spikes.dim() == 2 and pending.shape[1] != spikes.shape[0]:
            raise ValueError(
                f"spikes of a batch of {pending.shape[1]} are still on their way but the input is a batch of "
                f"{spikes.shape[0]}: reset the layer between batches"
            )
        current = sparse_delayed_linear_step(spikes, pending, now, self.synapses, self.bias)
        return current, pending, (now + 1) % pending.shape[0]

    def part_currents(self, spikes: Tensor, pending: Tensor | None, now: int) -> tuple[Tensor, Tensor, int]:
        """Input currents of a part ``[T, N, in]`` of a sequence, and the ring for the next part."""
        current = self.sequence_currents(spikes, padding="full")
        if pending is not None:
            current[: self.max_delay] += pending.roll(-now, 0)[: self.max_delay]
        steps = spikes.shape[0]
        later = current[steps:] if self.bias is None else current[steps:] - self.bias
        return current[:steps], torch.cat([later, torch.zeros_like(later[:1])]) if self.max_delay else None, 0

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"max_delay={self.max_delay}, synapses={self.weights.numel()}"
        )


def in_order(history: Tensor | None, slot: int) -> Tensor | None:
    """The history newest first, of a ring buffer whose entry ``slot`` is to be written next."""
    return history if history is None or slot == IN_ORDER else history.roll(-(slot + 1), 0)


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

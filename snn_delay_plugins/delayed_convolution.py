"""What the convolutions with delays of both frameworks share: parameters, and which form of the equations they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .checks import check_flag, check_spikes, check_steps, check_whole
from .delay_options import ConvolutionOptions, with_defaults
from .delayed import WindowedDelays, refuse_sequence
from .delays import Interpolation, check_rule_options, rule_of
from .functional.inputs import Padding, check_history, compute_dtype, padded_steps
from .functional.window_convolution import check_convolution, per_axis, windowed_convolution
from .functional.windows import history_after
from .initial_weights import firing_weight_
from .kernels import delay_line, dispatch
from .kernels.delay_line.dense import DenseSynapses
from .parameters import initial_delay, refuse_other_batch

__all__ = ["DelayedConvolution"]


class DelayedConvolution(WindowedDelays):
    """A weight and a delay per connection of a convolution over space; without any state."""

    axes = 2
    """Of space."""
    _sequence_form: str  # what a user calls for sequences

    def create_convolution(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        interpolation: Interpolation = "linear",
        **options: Unpack[ConvolutionOptions],
    ) -> None:
        """Create ``weight`` (:mod:`.initial_weights`), ``bias`` as torch's convolutions do, ``delay`` and the further
        parameters of the delay rule; called once by a layer's constructor."""
        given, axes = with_defaults(ConvolutionOptions, options), self.axes
        padded_steps(given.time_padding, 0)
        rule = rule_of(given.delay_gradient, interpolation)
        max_delay = check_steps("max_delay", given.max_delay)
        bias, learn_delay = check_flag("bias", bias), check_flag("learn_delay", given.learn_delay)
        learn_sigma = check_flag("learn_sigma", given.learn_sigma)
        channels = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
        in_channels, out_channels, groups = (check_whole(name, value, least=1) for name, value in channels.items())
        kernel_size, stride, dilation = (
            per_axis(name, value, axes, least=1)
            for name, value in {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}.items()
        )
        padding = per_axis("padding", padding, axes, least=0)
        check_rule_options(rule, sigma=given.sigma, learn_sigma=learn_sigma, smoothing=None)
        # tuples of so many numbers as there are axes, whose types are of one or two
        kind = cast("Callable[..., nn.Conv1d | nn.Conv2d]", (nn.Conv1d, nn.Conv2d)[axes - 1])
        plain = kind(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, plain.kernel_size
        self.stride, self.padding, self.dilation, self.groups = plain.stride, padding, plain.dilation, groups
        self.weight, self.bias = plain.weight, plain.bias
        nn.init.uniform_(self.weight, -1.0, 1.0)
        self.max_delay, self.learn_delay, self.learn_sigma = max_delay, learn_delay, learn_sigma
        self.delay_rule, self.interpolation = rule, interpolation
        self.time_padding: Padding = given.time_padding or "same"
        initial = initial_delay(given.delay, tuple(self.weight.shape), self.max_delay)
        if learn_delay:
            self.delay = nn.Parameter(initial)
        else:
            self.register_buffer("delay", initial)
        self.bound("delay", 0.0, self.max_delay, mode=given.bound_mode)
        self.create_rule_parameters(given.sigma, learn_sigma, given.sigma_type, given.bound_mode)
        firing_weight_(self.weight, kernel=self.initial_kernel())

    @property
    def lengthened_by(self) -> str:
        """The option that makes sequences longer, with its value; empty if none does."""
        return "" if self.time_padding == "same" else f"time_padding={self.time_padding!r}"

    def sequence_currents(
        self, spikes: Tensor, history: Tensor | None = None, time_padding: Padding | None = None
    ) -> Tensor:
        """Input currents of a sequence ``[T, N, C, ...]``."""
        rule = self.active_rule
        return windowed_convolution(
            spikes,
            self.weight,
            self.bounded("delay"),
            self.bias,
            rule=rule,
            parameters=self.rule_values(rule),
            max_delay=self.max_delay,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            time_padding=self.time_padding if time_padding is None else time_padding,
            history=history,
        )

    def check_batch(self, history: Tensor | None, spikes: Tensor, remedy: str) -> None:
        """Refuse spikes ``[..., N, C, *]`` of another batch size than the ``history`` ``[H, N, C, *]`` of earlier ones."""
        refuse_other_batch(history, spikes, -self.weight.dim(), remedy)

    def step_currents(self, spikes: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """Input currents of one step ``[N, C, ...]``, and the history, newest first, for the next one."""
        check_spikes(spikes)
        refuse_sequence(spikes, (self.in_channels, *("HW" if self.axes == 2 else "L")), self._sequence_form)
        if torch.compiler.is_compiling() or not dispatch.delay_line(spikes):
            sequence = spikes[None]
            current = self.sequence_currents(sequence, history, "same")[0]
            return current, self.history_after(sequence, history)
        if "parametrizations" not in self._modules:
            return self._step_on_line(spikes, history)
        with parametrize.cached():  # computed once, however often it is read
            return self._step_on_line(spikes, history)

    def _step_on_line(self, spikes: Tensor, history: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same over a line of currents on their way, which is begun where there is none to go on with."""
        key, held = self.line_key(spikes, ("weight", "delay", "bias", *self.delay_rule.parameters))
        state = delay_line.state_of(history, key, spikes)
        if state is None:
            check_convolution(spikes, self.weight, self.delay, self.bias, self.groups, steps=False)
            if history is None:
                history = delay_line.silent_history(spikes, self.max_delay + 1)
            else:
                check_history(history, self.max_delay + 1, spikes)
            line = delay_line.Line(self._line_synapses(spikes), self.bias, history, key, held)
            state = delay_line.begin(line, history)
        assert history is not None  # there is no state without
        return delay_line.step(spikes, history, state)

    def _line_synapses(self, spikes: Tensor) -> DenseSynapses:
        rule, compute = self.active_rule, compute_dtype(spikes, self.weight)
        with torch.autocast(spikes.device.type, enabled=False):
            weight, delay = self.weight.to(compute), self.bounded("delay").to(compute)
            kernel = rule.over_lags(weight, delay, self.max_delay, self.rule_values(rule))
            if not kernel.requires_grad:  # else taps of weight zero have a gradient
                kernel = kernel[: int(kernel.flatten(1).any(1).nonzero().amax()) + 1] if kernel.any() else kernel[:1]
        return DenseSynapses(kernel, self.stride, self.padding, self.dilation, self.groups)

    def history_after(self, spikes: Tensor, history: Tensor | None) -> Tensor:
        return history_after(spikes, history, self.max_delay)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, bias={self.bias is not None}, "
            f"max_delay={self.max_delay}, learn_delay={self.learn_delay}, {super().extra_repr()}"
        )

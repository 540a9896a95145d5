"""The one place that chooses between the plain PyTorch form of a function and its kernels.

:data:`OPERATORS` says which form each has on which device. A choice can be overridden per call (argument ``method``) or for
the whole process with the environment variable ``SNN_DELAY_PLUGINS_METHOD`` (``torch``: the plain form everywhere;
``direct``, ``fft``: the same, and how delays are convolved). :func:`chosen` tells what ran last and why, as the logger
``snn_delay_plugins`` does at debug level; where a kernel was expected and a slow form runs, one warning says why.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..callers import user_level
from ..transforms import exporting_to_onnx, transform
from .device import has_triton, kernel_device, runs_triton
from .op_counts import counting, uncounted
from .surrogates import surrogate_obstacle

__all__ = [
    "OPERATORS", "Choice", "DelayMethod", "LinearMethod", "ListedMethod", "NeuronMethod", "Operator", "chosen",
]  # fmt: skip

_log = logging.getLogger("snn_delay_plugins")
METHODS = ("torch", "numba", "triton")
_PLAIN = ("torch", "direct", "fft")  # in plain PyTorch; the last two say how delays are convolved


# ------------------------------------------------------------------------------------------------ what there is


class Operator(NamedTuple):
    """The forms of one operator besides plain PyTorch.

    :param forms: by type of device, what runs there.
    :param methods: what ``method=`` can ask for.
    :param slow: what the plain form means to a user, for a warning where it stands in for a kernel; None: no more than a
        line of the debug log.
    """

    forms: Mapping[str, str]
    methods: tuple[str, ...]
    slow: str | None = None


NeuronMethod = Literal["torch", "numba", "triton"]
DelayMethod = Literal["torch", "direct", "fft", "numba", "events", "shifted", "triton"]
LinearMethod = Literal["torch", "numba", "events"]
ListedMethod = Literal["torch", "numba", "triton"]
_STEPS = "AdLIF runs in its plain PyTorch form, step by step and many times slower"
_NEURON = Operator({"cpu": "numba", "cuda": "triton"}, get_args(NeuronMethod), _STEPS)
_LISTED = Operator({"cpu": "numba", "cuda": "triton"}, get_args(ListedMethod))

_EVENTS = Operator(
    {"cpu": "numba", "cuda": "triton"},
    METHODS,
    "EventProp runs in its plain form, for small networks and many times slower",
)

OPERATORS = {
    "adlif": _NEURON,
    "linear_neuron": _NEURON._replace(slow=_STEPS.replace("AdLIF runs in its", "the neurons run in their")),
    "recurrent_neuron": _LISTED._replace(slow=_STEPS.replace("AdLIF runs in its", "recurrent neurons run in their")),
    "delayed_linear": Operator(
        {"cpu": "auto", "cuda": "triton"}, get_args(DelayMethod),
        "delayed_linear runs as a dense convolution, slow over long delays",
    ),
    "spike_linear": Operator({"cpu": "auto"}, get_args(LinearMethod)),
    "sparse_delayed_linear": _LISTED,
    "sparse_taps": _LISTED,
    "delay_line": Operator({"cpu": "listed"}, METHODS),
    "eventprop_lif": _EVENTS,
    "eventprop_li": _EVENTS,
    "eventprop_linear": _EVENTS,
    "eventprop_linear_li": _EVENTS,
}  # fmt: skip
"""Every function that has more than one form."""


class Choice(NamedTuple):
    """What was chosen for a call."""

    form: str
    shape: tuple[int, ...]
    """Of the input."""
    why: str | None
    """What speaks against a kernel; None: nothing does."""


_last: dict[str, Choice] = {}


def chosen() -> dict[str, Choice]:
    """The last choice of this process for every operator that ran (not under ``torch.compile``, which records nothing).

    Example::

        >>> from snn_delay_plugins.functional.linear import spike_linear
        >>> _ = spike_linear(torch.ones(0, 2), torch.ones(3, 2))
        >>> chosen()["spike_linear"]
        Choice(form='torch', shape=(0, 2), why='the input is empty')
    """
    return dict(_last)


# ------------------------------------------------------------------------------------------------ the choice


def wanted_method(method: str | None, known: tuple[str, ...]) -> str | None:
    """The method that the caller or else the environment asks for.

    :raises ValueError: for an unknown method.
    """
    if method is not None:
        if method not in known:
            raise ValueError(f"method must be one of {known}, got {method!r}")
        return method
    wanted = os.environ.get("SNN_DELAY_PLUGINS_METHOD") or None
    if wanted not in (None, *METHODS, *_PLAIN):
        raise ValueError(f"SNN_DELAY_PLUGINS_METHOD must be one of {(*METHODS, *_PLAIN[1:])}, got {wanted!r}")
    return wanted


def choose(
    name: str,
    tensor: Tensor,
    dtype: torch.dtype,
    method: str | None = None,
    obstacle: Callable[[], str | None] = lambda: None,
) -> str:
    """The form of ``OPERATORS[name]`` that runs: one of its ``forms`` or ``methods``, ``"torch"`` where nothing else does.

    :param tensor: the input; :param dtype: what is computed in.
    :param method: what the caller asks for. :param obstacle: says what else speaks against the kernel.
    :raises ValueError: for an unknown method, or a kernel where it does not apply, saying why.
    """
    of = OPERATORS[name]
    wanted = wanted_method(method, of.methods)
    if exporting_to_onnx():
        return "torch"
    if wanted in _PLAIN:
        return _chose(name, tensor, wanted if wanted in of.methods else "torch")
    form = of.forms.get(kernel_device(tensor))
    why, is_slow = _obstacle(tensor), False
    if why is None:
        why = _transform_obstacle() or _device_obstacle(tensor, dtype, of) or obstacle()
        is_slow = why is not None
    if why is None and method is not None and (method == "triton") != (form == "triton"):
        why = f"the input is on {tensor.device}"
    if method is not None and why:
        raise ValueError(f"method={method!r} is not possible here: {why}")
    if is_slow and of.slow:
        warn_once(f"{of.slow}: {why}")
    if why is not None or form is None:  # no form without an obstacle: _device_obstacle knows no other device
        return _chose(name, tensor, "torch", why)
    if wanted is not None and wanted in of.methods and wanted not in METHODS:
        form = wanted  # one of several on this device
    return _chose(name, tensor, form)


def _chose(name: str, tensor: Tensor, form: str, why: str | None = None) -> str:
    if not torch.compiler.is_compiling():
        _last[name] = choice = Choice(form, tuple(tensor.shape), why)
        _log.debug("%s %s: %s%s", name, choice.shape, form, f" ({why})" if why else "")
    if form not in _PLAIN:
        tell_counters(name)
    return form


def tell_counters(operator: str) -> None:
    """One warning that SpikingJelly's ``op_counter`` counts nothing for ``operator``, where one is active and kernels run.

    :raises NotImplementedError: under ``strict=True``.
    """
    if torch.compiler.is_compiling() or not counting() or wanted_method(None, METHODS) in _PLAIN:
        return
    if message := uncounted(operator):
        warn_once(message)


@cache
def _warned(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=user_level())


def warn_once(message: str) -> None:
    """A warning that a process sees once."""
    if not torch.compiler.is_compiling():
        _warned(message)


# ------------------------------------------------------------------------------------------------ obstacles


def _obstacle(tensor: Tensor) -> str | None:
    """Why no kernel is meant to run: nobody is warned."""
    if tensor.numel() == 0:
        return "the input is empty"
    if tensor.is_meta:
        return "on the meta device there are shapes alone"
    if torch.jit.is_tracing():
        return "torch.jit.trace traces the plain form"
    return None


def _transform_obstacle() -> str | None:
    running = transform()
    return None if running is None else f"compiled code has no rule for {running}"


def _device_obstacle(tensor: Tensor, dtype: torch.dtype, of: Operator) -> str | None:
    if dtype not in (torch.float32, torch.float64):
        return f"the kernel computes in float32 or float64, not {dtype}"
    if kernel_device(tensor) not in of.forms:
        return f"the kernel runs on {' and '.join(of.forms)}, the input is on {tensor.device}"
    if runs_triton(tensor):
        return None if has_triton() else "triton is not installed"
    return None if _HAS_NUMBA else "numba is not installed"


def _has_numba() -> bool:
    try:
        return find_spec("numba") is not None
    except ModuleNotFoundError:  # an import hook that hides it
        return False


_HAS_NUMBA = _has_numba()  # known at import: torch.compile cannot look for packages
# ------------------------------------------------------------------------------------------------ by operator


def neuron_method(
    current: Tensor, dtype: torch.dtype, surrogate: Callable, method: str | None = None, name: str = "linear_neuron"
) -> str:
    """``"numba"`` or ``"triton"`` where the kernel of linear neurons applies, else ``"torch"``.

    :param surrogate: the kernel serves every one that spikes with 0 or 1; a smooth one needs ``"torch"``.
    """
    return choose(name, current, dtype, method, lambda: surrogate_obstacle(surrogate))


DELAY_KERNELS = ("auto", "events", "shifted", "triton")


def delay_method(trains: Tensor, dtype: torch.dtype, method: str | None = None) -> str | None:
    """``"direct"`` or ``"fft"`` (plain PyTorch), or ``"auto"``, ``"events"``, ``"shifted"`` (CPU) or ``"triton"``.

    :returns: ``None`` where the plain form itself is to choose.
    """
    form = choose("delayed_linear", trains, dtype, method)
    if form == "torch" and exporting_to_onnx():
        return "direct"
    return None if form == "torch" else form


def linear_method(spikes: Tensor, weight: Tensor, bias: Tensor | None, method: str | None = None) -> str:
    """``"torch"``, or ``"events"`` or ``"auto"`` for the operator on the CPU."""

    def obstacle() -> str | None:
        dtypes = {value.dtype for value in (spikes, weight, bias) if value is not None}
        if weight.numel() == 0:
            return "the weight is empty"
        if torch.is_autocast_enabled("cpu"):
            return "autocast computes products of matrices in half precision"
        if len(dtypes) > 1:
            return f"input, weight and bias have different dtypes: {', '.join(sorted(map(str, dtypes)))}"
        if bias is not None and bias.shape != weight.shape[:1]:
            return f"the bias must be [{weight.shape[0]}] for the kernel, got shape {tuple(bias.shape)}"
        return None

    return choose("spike_linear", spikes, spikes.dtype, method, obstacle)


def sparse_delay_method(spikes: Tensor, method: str | None = None, name: str = "sparse_delayed_linear") -> str:
    """``"numba"`` or ``"triton"`` where the kernel over a list of synapses applies, else ``"torch"``."""
    return choose(name, spikes, spikes.dtype, method)


def eventprop_method(times: Tensor, name: str) -> str:
    """``"torch"`` where the environment asks for the plain form, or nothing else can run; else the kernel's."""
    if exporting_to_onnx():
        raise NotImplementedError(
            f"{name} cannot be exported to ONNX: EventProp computes with lists of spikes at times between the steps, whose "
            "length depends on the input. Export layer.discretize(dt), which is the same layer over whole steps"
        )
    if torch.compiler.is_compiling():  # which cannot trace the plain form
        return "numba"
    if wanted_method(None, METHODS) in _PLAIN:
        return _chose(name, times, "torch")
    form = OPERATORS[name].forms.get(kernel_device(times), "numba") if has_triton() else "numba"  # elsewhere by copies
    if form == "numba" and not _HAS_NUMBA:
        why = "numba is not installed"
        warn_once(f"{OPERATORS[name].slow}: {why}")
        return _chose(name, times, "torch", why)
    return _chose(name, times, form)


def delay_line(spikes: Tensor) -> str | None:
    """Whether a step of a layer with delays runs over a line (:mod:`.delay_line`), with ``"listed"`` synapses (CPU) or
    ``"dense"`` ones (PyTorch); None: in its plain form."""
    if spikes.numel() == 0 or spikes.is_meta or type(spikes) not in (Tensor, torch.nn.Parameter):
        return None  # subclasses (fake tensors, tensors inside torch.func) do not have the numbers
    if torch.jit.is_tracing() or transform() is not None or wanted_method(None, METHODS) in _PLAIN:
        return None
    return "listed" if _HAS_NUMBA and spikes.is_cpu and not runs_triton(spikes) else "dense"


SPARSE_BELOW = 0.15
"""Share of the possible synapses below which training visits those that exist alone."""


def sparse_training(spikes: Tensor, dtype: torch.dtype, mask: Tensor) -> bool:
    """Whether a layer with few synapses computes with those alone (:mod:`~snn_delay_plugins.functional.sparse_taps`)."""
    if torch.compiler.is_compiling() or wanted_method(None, METHODS) in _PLAIN:
        return False
    of = OPERATORS["sparse_taps"]
    if _obstacle(spikes) or _device_obstacle(spikes, dtype, of) or transform():
        return False
    return int(mask.sum()) <= SPARSE_BELOW * mask.numel()


# ------------------------------------------------------------------------------------------------ by density

# Share of the entries that are not zero below which visiting events is faster than shifting whole trains,
EVENTS_BELOW = {"forward": 0.08, "synapses": 0.08, "trains": 0.05}
# and below which a product of matrices is slower than visiting them alone.
LINEAR_BELOW = {"forward": 0.3, "weights": 0.25, "inputs": 0.45}


def delay_form(stage: str, trains: Tensor, method: str) -> str:
    """``"events"`` or ``"shifted"`` for one pass over the trains, by :data:`EVENTS_BELOW`."""
    return _form("delayed_linear", stage, trains, method, EVENTS_BELOW[stage], "shifted")


def linear_form(stage: str, x: Tensor, method: str) -> str:
    """``"events"`` or ``"dense"`` for one pass over the matrix x, by :data:`LINEAR_BELOW`."""
    return _form("spike_linear", stage, x, method, LINEAR_BELOW[stage], "dense")


def _form(what: str, stage: str, x: Tensor, method: str, below: float, dense: str) -> str:
    """``"events"`` or ``dense``. ``"auto"``: by the density of 64 of the rows of x, always the same ones."""
    leading = x.shape[:-1]
    rows = x if leading.numel() <= _SAMPLED else x[torch.unravel_index(_sampled_rows(leading.numel()), leading)]
    density = int(rows.count_nonzero()) / max(1, rows.numel())
    form = ("events" if density < below else dense) if method == "auto" else method
    _log.debug("%s %s %s: %s (density about %.3g)", what, stage, tuple(x.shape), form, density)
    return form


_SAMPLED = 64


@lru_cache(maxsize=16)
def _sampled_rows(rows: int) -> Tensor:
    """Rows at random distances: at equal ones they could all be of one sample."""
    return torch.randint(rows, (_SAMPLED,), generator=torch.Generator().manual_seed(0), device="cpu").sort().values

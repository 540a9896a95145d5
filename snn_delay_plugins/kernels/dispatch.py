"""The one place that chooses between the plain PyTorch form of a function and its kernels.

The choice can be overridden per call (argument ``method``) or for the whole process with the environment variable
``SNN_DELAY_PLUGINS_METHOD`` (``torch``: the plain form everywhere; ``direct``: the same, with delays as dense
convolutions). What was chosen is logged at debug level under the logger ``snn_delay_plugins``; where a kernel was
expected and a slow form runs, one warning says why.
"""

from __future__ import annotations

import logging
import os
import warnings
import weakref
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from ..transforms import transform
from .op_counts import counting, uncounted

__all__ = ["adlif_method"]

_log = logging.getLogger("snn_delay_plugins")
METHODS = ("torch", "numba", "triton")
_META = "on the meta device there are shapes alone"
_PLAIN = ("torch", "direct", "fft")  # in plain PyTorch; the last two say how delays are convolved


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


def adlif_method(
    current: Tensor, dtype: torch.dtype, surrogate: Callable, method: str | None = None, function: str = "adlif"
) -> str:
    """``"numba"`` or ``"triton"`` where the compiled AdLIF kernel applies, else ``"torch"``.

    :param current: the input sequence; :param dtype: the dtype that the states are computed in.
    :param surrogate: the kernel handles every surrogate that spikes with 0 or 1; a smooth one needs ``"torch"``.
    :param method: what the caller asks for.
    :raises ValueError: for an unknown method, or a kernel where it does not apply, saying why.
    """
    wanted = wanted_method(method, METHODS)
    compiled = "triton" if current.is_cuda else "numba"
    if wanted in _PLAIN:
        return _chose(function, current, "torch")
    if method is not None and method != compiled:
        raise ValueError(f"method={method!r} is not possible here: current is on {current.device}")
    if current.numel() == 0:
        obstacle = "the input is empty"
    elif current.is_meta:
        obstacle = _META
    elif torch.jit.is_tracing():
        obstacle = "torch.jit.trace traces the plain form"
    else:
        obstacle = _transform_obstacle() or _device_obstacle(current, dtype) or _surrogate_obstacle(surrogate)
        if obstacle:
            warn_once(f"AdLIF runs in its plain PyTorch form, step by step and many times slower: {obstacle}")
    if method is not None and obstacle:
        raise ValueError(f"method={method!r} is not possible here: {obstacle}")
    return _chose(function, current, "torch" if obstacle else compiled, obstacle)


def _chose(function: str, tensor: Tensor, method: str, why: str | None = None) -> str:
    if not torch.compiler.is_compiling():
        _log.debug("%s %s: %s%s", function, tuple(tensor.shape), method, f" ({why})" if why else "")
    if method not in ("torch", "plain"):
        tell_counters(function)
    return method


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
    warnings.warn(message, UserWarning, stacklevel=5)


def warn_once(message: str) -> None:
    """A warning that a process sees once."""
    if not torch.compiler.is_compiling():
        _warned(message)


def _transform_obstacle() -> str | None:
    running = transform()
    return None if running is None else f"compiled code has no rule for {running}"


def _device_obstacle(tensor: Tensor, dtype: torch.dtype) -> str | None:
    if dtype not in (torch.float32, torch.float64):
        return f"the kernel computes in float32 or float64, not {dtype}"
    if tensor.is_cuda:
        return None if _has_triton() else "triton is not installed"
    if tensor.device.type != "cpu":
        return f"there are kernels for cpu and cuda, the input is on {tensor.device}"
    return None if _HAS_NUMBA else "numba is not installed"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _has_numba() -> bool:
    try:
        return find_spec("numba") is not None
    except ModuleNotFoundError:  # an import hook that hides it
        return False


_HAS_NUMBA = _has_numba()  # known at import: torch.compile cannot look for packages


# ------------------------------------------------------------------------------------------------ surrogates

_probed: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _surrogate_obstacle(surrogate: Callable) -> str | None:
    if getattr(surrogate, "is_boxcar", False):
        return None
    if torch.compiler.is_compiling():
        return "torch.compile traces through the kernel with the boxcar surrogate alone"
    if isinstance(surrogate, torch.nn.Module) and any(p.requires_grad for p in surrogate.parameters()):
        return "the surrogate has trainable parameters"
    if not getattr(surrogate, "spiking", True):  # SpikingJelly: the smooth primitive function
        return "the surrogate is not known to emit 0 or 1 (spiking=False)"
    try:
        if surrogate not in _probed:
            _probed[surrogate] = _probe(surrogate)
        return _probed[surrogate]
    except TypeError:  # a callable that can be no key
        return _probe(surrogate)


def _probe(surrogate: Callable) -> str | None:
    """Why the kernel, which needs nothing of a surrogate but the number ds/dx of each neuron, cannot stand for it."""
    try:
        with unset_fake_temporarily():  # the answer is kept for real tensors too
            return _answer(surrogate)
    except Exception as error:  # whatever somebody's function raises: the plain form will raise it, or not
        return f"the surrogate could not be tried in float32 on the CPU: {error}"


def _answer(surrogate: Callable) -> str | None:
    x = torch.linspace(-3, 3, 128, device="cpu")  # without zero, where surrogates differ and the neuron's own rule decides
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.device("cpu"):
        leaf = x.clone().requires_grad_()
        spikes = surrogate(leaf)
        if spikes.shape != x.shape or not torch.equal(spikes.detach().to(x.dtype), (x > 0).to(x.dtype)):
            return "the surrogate is not known to emit 0 or 1 (it does not spike exactly above the threshold)"
        if not spikes.requires_grad:
            return None
        g = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(spikes.dtype)
        (slope,) = torch.autograd.grad(surrogate(leaf), leaf, torch.ones_like(g))
        (pulled,) = torch.autograd.grad(spikes, leaf, g)
    if not torch.allclose(pulled, g.to(slope.dtype) * slope, rtol=1e-4, atol=1e-6):
        return "the surrogate's backward is not ds/dx times the incoming gradient"
    return None


# ---------------------------------------------------------------------------------------------------- delays

DELAY_KERNELS = ("auto", "events", "shifted", "triton")
DELAY_METHODS = ("direct", "fft", "numba", "events", "shifted", "triton")
# Share of the entries that are not zero below which visiting events is faster than shifting whole trains.
EVENTS_BELOW = {"forward": 0.08, "synapses": 0.08, "trains": 0.05}


def delay_method(trains: Tensor, dtype: torch.dtype, method: str | None = None) -> str | None:
    """``"direct"`` or ``"fft"`` (plain PyTorch), or ``"auto"``, ``"events"``, ``"shifted"`` (CPU) or ``"triton"``.

    :param trains: the input; :param dtype: what the layer computes in.
    :returns: ``None`` where the plain form itself is to choose.
    :raises ValueError: for an unknown method, or a kernel where it does not apply, saying why.
    """
    wanted = wanted_method(method, (*DELAY_METHODS, "torch"))
    if wanted in _PLAIN:
        return _chose("delayed_linear", trains, "plain") and (None if wanted == "torch" else wanted)
    if trains.numel() == 0:
        obstacle = "the input is empty"
    elif trains.is_meta:
        obstacle = _META
    elif torch.jit.is_tracing():
        obstacle = "torch.jit.trace traces the plain form"
    else:
        obstacle = _transform_obstacle() or _device_obstacle(trains, dtype)
        if obstacle:
            warn_once(f"delayed_linear runs as a dense convolution, slow over long delays: {obstacle}")
    cpu = wanted in ("numba", "events", "shifted")
    if obstacle is None and method is not None and cpu == trains.is_cuda:
        obstacle = f"the input is on {trains.device}"
    if method is not None and obstacle:
        raise ValueError(f"method={method!r} is not possible here: {obstacle}")
    if obstacle:
        return _chose("delayed_linear", trains, "plain", obstacle) and None
    if trains.is_cuda:
        return _chose("delayed_linear", trains, "triton")
    tell_counters("delayed_linear")
    return wanted if wanted in ("events", "shifted") else "auto"


def delay_form(stage: str, trains: Tensor, method: str) -> str:
    """``"events"`` or ``"shifted"`` for one pass over the trains, by :data:`EVENTS_BELOW`."""
    return _form("delayed_linear", stage, trains, method, EVENTS_BELOW[stage], "shifted")


# Share of the entries that are not zero below which a product of matrices is slower than visiting them alone.
LINEAR_BELOW = {"forward": 0.3, "weights": 0.25, "inputs": 0.45}


def linear_method(spikes: Tensor, weight: Tensor, bias: Tensor | None, method: str | None = None) -> str:
    """``"torch"``, or ``"events"`` or ``"auto"`` for the operator on the CPU.

    :raises ValueError: for an unknown method, or a kernel where it does not apply, saying why.
    """
    wanted = wanted_method(method, ("torch", "numba", "events"))
    if wanted in _PLAIN:
        return "torch"
    dtypes = {value.dtype for value in (spikes, weight, bias) if value is not None}
    if spikes.numel() == 0 or weight.numel() == 0:
        obstacle = "the input is empty"
    elif torch.jit.is_tracing():
        obstacle = "torch.jit.trace traces the plain form"
    elif spikes.device.type != "cpu":
        obstacle = f"the kernel runs on the CPU, the input is on {spikes.device}"
    elif torch.is_autocast_enabled("cpu"):
        obstacle = "autocast computes products of matrices in half precision"
    elif len(dtypes) > 1:
        obstacle = f"input, weight and bias have different dtypes: {', '.join(sorted(map(str, dtypes)))}"
    elif bias is not None and bias.shape != weight.shape[:1]:
        obstacle = f"the bias must be [{weight.shape[0]}] for the kernel, got shape {tuple(bias.shape)}"
    else:
        obstacle = _transform_obstacle() or _device_obstacle(spikes, spikes.dtype)
    if method is not None and obstacle:
        raise ValueError(f"method={method!r} is not possible here: {obstacle}")
    return _chose("spike_linear", spikes, "torch" if obstacle else "events" if wanted == "events" else "auto", obstacle)


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


def sparse_delay_method(spikes: Tensor, method: str | None = None) -> str:
    """``"numba"`` where the kernel over a list of synapses applies, else ``"torch"``.

    :raises ValueError: for an unknown method, or ``"numba"`` where it does not apply, saying why.
    """
    wanted = wanted_method(method, ("torch", "numba"))
    if wanted == "torch":
        return _chose("sparse_delayed_linear", spikes, "torch")
    obstacle = "the input is empty" if spikes.numel() == 0 else _device_obstacle(spikes, spikes.dtype)
    if obstacle is None and spikes.is_cuda:
        obstacle = "the kernel runs on the CPU"
    obstacle = obstacle or _transform_obstacle()
    if method is not None and obstacle:
        raise ValueError(f"method={method!r} is not possible here: {obstacle}")
    return _chose("sparse_delayed_linear", spikes, "torch" if obstacle else "numba", obstacle)


def delay_line(spikes: Tensor) -> str | None:
    """Whether a step of a layer with delays runs over a line (:mod:`.delay_line`), with ``"listed"`` synapses (CPU) or
    ``"dense"`` ones (PyTorch); None: in its plain form."""
    if spikes.numel() == 0 or spikes.is_meta or type(spikes) not in (Tensor, torch.nn.Parameter):
        return None  # subclasses (fake tensors, tensors inside torch.func) do not have the numbers
    if torch.jit.is_tracing() or transform() is not None or wanted_method(None, METHODS) in _PLAIN:
        return None
    return "listed" if _HAS_NUMBA and spikes.is_cpu else "dense"


SPARSE_BELOW = 0.15
"""Share of the possible synapses below which training visits those that exist alone."""


def sparse_training(spikes: Tensor, dtype: torch.dtype, mask: Tensor) -> bool:
    """Whether a layer with few synapses computes with those alone (:mod:`~snn_delay_plugins.functional.windows`)."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or wanted_method(None, METHODS) in _PLAIN:
        return False
    if spikes.numel() == 0 or spikes.device.type != "cpu" or _device_obstacle(spikes, dtype) or transform():
        return False
    return int(mask.sum()) <= SPARSE_BELOW * mask.numel()

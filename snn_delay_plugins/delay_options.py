"""The options of layers with delays: name, type, default and meaning of each, once for all layers of all frameworks.

A constructor takes them as ``**options: Unpack[LinearOptions]`` under :func:`takes_options`, which gives it the signature
and the documentation that it would have if they were spelt out, and refuses what is no option. Type checkers read the same
from the ``TypedDict``, which also types a function of one's own that hands options on.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, Required, TypedDict, get_args, get_origin, get_type_hints

from torch import Tensor

from .delays import DelayRule, RuleName
from .delays import Interpolation as InterpolationName
from .functional.inputs import Padding
from .parameters import DelayType

__all__ = [
    "ConvolutionOptions", "DelayOptions", "Interpolation", "LinearOptions", "Option", "SynapseOptions", "takes_options",
    "with_defaults",
]  # fmt: skip

P = ParamSpec("P")
_REQUIRED = inspect.Parameter.empty


class Option(NamedTuple):
    """What an annotation says of an option beside its type."""

    doc: str
    default: Any = _REQUIRED


class DelayOptions(TypedDict, total=False):
    """Options of every layer with delays."""

    max_delay: Required[Annotated[int, Option("longest delay in time steps.")]]
    delay: Annotated[
        float | Literal["zeros", "uniform"] | Tensor,
        Option('initial delays: a number, ``"zeros"``, ``"uniform"`` (U(0, max_delay)) or a tensor.', 0.0),
    ]
    learn_delay: Annotated[bool, Option("``False``: the delays are a buffer.", True)]
    delay_gradient: Annotated[
        RuleName | DelayRule,
        Option(
            "the rule by which delays are learned (:mod:`snn_delay_plugins.delays`): its name or the rule itself. "
            '``"slayer"``: between two steps; ``"gaussian"`` (Hammouamri et al., Eq. 9 and Eq. 7) and ``"triangle"`` '
            "(DelRec): in training a window of that shape around the delay, in evaluation the rounded delay; "
            '``"quantised"``: of 5 bits, straight through the rounding.',
            "slayer",
        ),
    ]
    sigma: Annotated[
        float | None,
        Option(
            "the width of Gaussians (standard deviation) and triangles in time steps. Default: where the published "
            "annealing starts, Gaussian: T_d // 2 + 0.27 with T_d = max_delay + 1, triangle: 10 or half of T_d; bring it "
            "down to 0.5 with :mod:`snn_delay_plugins.schedules`.",
            None,
        ),
    ]
    learn_sigma: Annotated[bool, Option("sigma is a parameter, of Gaussians at least 0.27, instead of a buffer.", False)]
    sigma_type: Annotated[
        Literal["shared", "synaptic"],
        Option('of sigma: ``"shared"`` (one number) or ``"synaptic"`` (one per delay).', "shared"),
    ]
    bound_mode: Annotated[
        Literal["project", "clamp"],
        Option('``"project"`` (clip after the optimizer\'s step) or ``"clamp"`` (clamp in the forward pass).', "project"),
    ]


class SynapseOptions(DelayOptions, total=False):
    """Options of layers whose synapses each have a sender and a receiver, which recurrent ones have too."""

    delay_type: Annotated[
        DelayType,
        Option(
            '``"synaptic"`` (delay ``[out, in]``), ``"axonal"`` (``[1, in]``), ``"dendritic"`` (``[out, 1]``).', "synaptic"
        ),
    ]
    synapses: Annotated[
        int | None,
        Option("number of synapses per neuron, from random senders (``mask``). Default: from all senders.", None),
    ]
    density: Annotated[float | None, Option("the same as a share of the senders.", None)]


class LinearOptions(SynapseOptions, total=False):
    """Options of linear layers with delays."""

    padding: Annotated[
        Padding,
        Option(
            '``"same"``, or for sequences alone a number of steps after the last, that late spikes still arrive '
            '(published DCLS models: ``max_delay // 2``), or ``"full"`` (``max_delay``); nothing is then left for the next '
            "call.",
            "same",
        ),
    ]
    smoothing: Annotated[
        Tensor | None, Option("SLAYER: the causal kernel eps_d over time (Deckers et al., section 3.3), ``[taps]``.", None)
    ]


class ConvolutionOptions(DelayOptions, total=False):
    """Options of convolutions over space with delays."""

    time_padding: Annotated[
        Padding, Option('``"same"``, or for sequences alone ``"full"`` or a number of steps after the last.', "same")
    ]


Interpolation = Annotated[
    InterpolationName, Option('SLAYER: interpolation between whole steps: ``"linear"``, ``"round"`` or ``"floor"``.')
]


def with_defaults(kind: type, options: Mapping[str, Any]) -> SimpleNamespace:
    """The options of ``kind`` as attributes: those given, and the defaults of the others.

    :raises TypeError: for one that is required and not given, or that ``kind`` does not have.
    """
    known = {name: option.default for name, (_, option) in _options_of(kind).items()}
    _check_names("this layer", options, known, [name for name, default in known.items() if default is _REQUIRED])
    return SimpleNamespace(**{**known, **options})


def takes_options(kind: type) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Of a constructor whose last argument is ``**options: Unpack[kind]``: signature and documentation with the options
    spelt out, and a TypeError that names the nearest one for a name that is no option.

    Example::

        >>> class Layer:
        ...     @takes_options(ConvolutionOptions)
        ...     def __init__(self, channels: int, *, kernel: Interpolation = "linear", **options) -> None: ...
        >>> list(inspect.signature(Layer).parameters)[:3]
        ['channels', 'max_delay', 'delay']
        >>> Layer(3, max_delay=5, learn_dealy=False)
        Traceback (most recent call last):
        TypeError: Layer has no option 'learn_dealy': did you mean 'learn_delay'?
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        signature, documentation = _spelt_out(init, kind)
        known = list(signature.parameters)[1:]
        required = [name for name, (_, option) in _options_of(kind).items() if option.default is _REQUIRED]

        @functools.wraps(init)
        def construct(*args: P.args, **kwargs: P.kwargs) -> None:
            _check_names(type(args[0]).__name__, kwargs, known, required)
            init(*args, **kwargs)

        construct.__signature__ = signature  # type: ignore[attr-defined]
        construct.__doc__ = documentation
        return construct

    return decorate


@functools.cache
def _options_of(kind: type) -> dict[str, tuple[Any, Option]]:
    """Name -> (type, what is said of it); what is required first."""
    hints = {name: _unwrapped(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    found = {name: (hint, option) for name, (hint, option) in hints.items() if option is not None}
    return dict(sorted(found.items(), key=lambda item: item[1][1].default is not _REQUIRED))


def _unwrapped(hint: Any) -> tuple[Any, Option | None]:
    """An annotation as (type, Option)."""
    if get_origin(hint) is Required:
        hint = get_args(hint)[0]
    if get_origin(hint) is not Annotated:
        return hint, None
    kind, *said = get_args(hint)
    return kind, next((option for option in said if isinstance(option, Option)), None)


def _spelt_out(init: Callable, kind: type) -> tuple[inspect.Signature, str]:
    hints = get_type_hints(init, include_extras=True)
    own: list[inspect.Parameter] = []
    documented: list[tuple[str, str]] = []
    for name, parameter in inspect.signature(init).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            hint, option = _unwrapped(hints.get(name, parameter.annotation))
            own.append(parameter.replace(annotation=hint))
            if option is not None:
                documented.append((name, option.doc))
    options = _options_of(kind)
    spelt = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=hint)
        for name, (hint, option) in options.items()
    ]
    by_name = [parameter for parameter in own if parameter.kind is parameter.KEYWORD_ONLY]
    placed = [parameter for parameter in own if parameter not in by_name]
    documented = [*((name, option.doc) for name, (_, option) in options.items()), *documented]
    lines = [textwrap.fill(f":param {name}: {doc}", 110, subsequent_indent="    ") for name, doc in documented]
    return inspect.Signature([*placed, *spelt, *by_name], return_annotation=None), "\n".join(lines) + "\n"


def _check_names(owner: str, given: Iterable[str], known: Collection[str], required: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise TypeError(f"{owner} has no option {name!r}: {advice}")
    for name in required:
        if name not in given:
            raise TypeError(f"{owner} needs {name}=")

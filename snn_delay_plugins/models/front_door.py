"""Classes made of a model: signature, docstring and the checks of names; each framework brings its base class."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from .model import LinearModel, NeuronModel, Parameter, StepModel

__all__ = ["bound_arguments", "calling_module", "check_names", "check_type", "document", "make_class", "signature_of"]

_BY_POSITION = inspect.Parameter.POSITIONAL_OR_KEYWORD
_BY_NAME = inspect.Parameter.KEYWORD_ONLY
_VALUE = "float | Tensor | None"


def check_type(model: object) -> NeuronModel:
    """:raises TypeError: if ``model`` is none."""
    if not isinstance(model, LinearModel | StepModel):
        raise TypeError(f"model must be a LinearModel or a StepModel, got {model!r}")
    return model


def check_names(model: NeuronModel, base: type, names: Iterable[str], taken: Iterable[str]) -> None:
    """
    :param base: what the class of the model derives from. :param names: attributes that the model brings.
    :param taken: those of instances of ``base``.
    :raises ValueError: if a state or parameter is called as something that ``base`` or its constructor has already.
    """
    taken = {*taken, *dir(base), *inspect.signature(base.__init__).parameters}
    for own in names:
        if own in taken:
            raise ValueError(f"{own!r} of {model.name} is something else in {base.__name__}: give it another name")


def calling_module(module: str | None) -> str:
    """The module in which a class is made, where pickle will look for it: that of the caller's caller, if not given."""
    return module or sys._getframe(2).f_globals.get("__name__", "__main__")


def signature_of(function, first: Iterable[str], defaults: Mapping[str, object]) -> inspect.Signature:
    """That of ``function`` with its ``**of_model`` replaced: ``first`` before its arguments, ``defaults`` (by name) changed
    or, where ``function`` does not have them, added as ``name=default`` in front of its keyword-only arguments."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    own = [p.replace(default=defaults.get(p.name, p.default)) for p in own]
    me, *own = own
    known = {p.name for p in own}
    placed = [inspect.Parameter(name, _BY_POSITION, default=None, annotation=_VALUE) for name in first]
    added = [
        inspect.Parameter(name, _BY_NAME, default=value, annotation=_VALUE)
        for name, value in defaults.items()
        if name not in known
    ]
    by_position = [p for p in own if p.kind is not _BY_NAME]
    return inspect.Signature([me, *placed, *by_position, *added, *(p for p in own if p.kind is _BY_NAME)])


def bound_arguments(signature: inspect.Signature, of: object, args: tuple, kwargs: dict) -> dict[str, object]:
    """The arguments by name.

    :raises TypeError: as Python does, for those that the signature does not have.
    """
    try:
        arguments = signature.bind(of, *args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{type(of).__name__}: {error}") from None
    return {name: value for name, value in arguments.items() if value is not of}


def make_class(
    base: type, name: str, module: str, model: NeuronModel, signature: inspect.Signature, doc: str, **attributes
) -> type:
    """A subclass of ``base`` for the neurons of ``model``."""

    def __init__(self, *args, **kwargs) -> None:
        super(made, self).__init__(**bound_arguments(signature, self, args, kwargs))

    __init__.__signature__ = signature
    __init__.__qualname__ = f"{name}.__init__"
    made = type(base)(
        name, (base,), {"__init__": __init__, "__module__": module, "__doc__": doc, "model": model, **attributes}
    )
    return made


def document(model: NeuronModel, use: str, call: str, options: Sequence[str], example: str) -> str:
    """The docstring of a class: equations, how it is called, every parameter with its interval, options."""
    source = f" ({model.source})" if model.source else ""
    lines = [f"{model.title or model.name}{source}, {use}.", ""]
    if model.equations:
        # an equation alone has nothing to be aligned with, and no renderer takes its &
        equations = model.equations if r"\\" in model.equations else model.equations.replace("&", "")
        lines += [".. math::", *(f"    {line.strip()}" for line in equations.splitlines()), ""]
    if model.notes:
        lines += [model.notes, ""]
    lines += [call, ""]
    if model.parameters:
        lines += [
            "Each parameter has one trainable value per neuron, drawn uniformly at first and kept in its interval after "
            "every optimizer step.",
            "",
        ]
    lines += [f":param {name}: {_described(parameter)}." for name, parameter in model.parameters.items()]
    presets = ", ".join(f'``"{name}"``' for name in model.all_presets)
    lines += [f":param preset: which intervals: {presets}.", *options, "", "Example::", "", *example.splitlines()]
    return "\n".join(line if line.startswith(" ") else _wrapped(line) for line in lines) + "\n"


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 116, subsequent_indent="    " * line.startswith(":"), break_long_words=False)


def _described(parameter: Parameter) -> str:
    low, high = parameter.draw
    drawn = f"{low:.4g}" if low == high else f"U({low:.4g}, {high:.4g})"
    kept = f", kept in [{parameter.low:.4g}, {parameter.high:.4g}]"
    free = parameter.low == -parameter.high and parameter.high == float("inf")
    return f"{parameter.doc or 'parameter'}: at first {drawn}{'' if free else kept}; a number or tensor is taken instead"

"""Delay rules as windows: one file a rule, each with equation, source, parameters and one function (:mod:`.rule`).

``delay_gradient=`` of the layers takes a name of :data:`RULES` or a :class:`DelayRule`, registered or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..checks import check_choice
from .gaussian import DCLS_MAX, GAUSSIAN
from .quantised import QUANTISED
from .rule import DelayRule, RuleParameter, Window, check_delays, check_width, round_delay, scatter_window
from .slayer import FLOOR, LINEAR, ROUND, Interpolation
from .triangle import TRIANGLE

__all__ = [
    "DCLS_MAX", "FLOOR", "GAUSSIAN", "LINEAR", "QUANTISED", "ROUND", "RULES", "TRIANGLE", "WHOLE", "DelayRule",
    "Interpolation", "RuleName", "RuleParameter", "Window", "check_delays", "check_rule_options", "check_width", "rule_of",
    "rules_of_whole_delays", "rules_with_sigma", "scatter_window",
]  # fmt: skip

RuleName = Literal["slayer", "gaussian", "triangle", "quantised"]
RULES: dict[str, DelayRule] = {rule.name: rule for rule in (LINEAR, GAUSSIAN, TRIANGLE, QUANTISED)}
"""Every rule that layers know by name."""

WHOLE = ROUND
"""One tap at the nearest whole delay: what layers are for deployment."""


def rule_of(delay_gradient: RuleName | DelayRule, interpolation: Interpolation = "linear") -> DelayRule:
    """The rule that a layer's options name.

    :raises ValueError: for an unknown name, or an interpolation where the rule has none.

    Example::

        >>> rule_of("slayer", "round").name
        'slayer'
        >>> rule_of("gauss")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: delay_gradient must be one of (...) or a DelayRule, got 'gauss'
    """
    if isinstance(delay_gradient, DelayRule):
        rule = delay_gradient
    elif isinstance(delay_gradient, str) and delay_gradient in RULES:
        rule = RULES[delay_gradient]
    else:
        raise ValueError(f"delay_gradient must be one of {tuple(RULES)} or a DelayRule, got {delay_gradient!r}")
    if rule.interpolations:
        return rule.interpolations[check_choice("interpolation", interpolation, tuple(rule.interpolations))]
    if interpolation != "linear":
        raise ValueError(f"interpolation belongs to {_names('interpolations')}")
    return rule


def check_rule_options(rule: DelayRule, *, sigma: object, learn_sigma: bool, smoothing: object) -> None:
    """
    :raises ValueError: for options of a layer that its rule does not have.
    """
    if "sigma" not in rule.parameters and (sigma is not None or learn_sigma):
        raise ValueError(f"sigma belongs to {rules_with_sigma()}")
    if smoothing is not None and not rule.smoothing:
        raise ValueError(f"smoothing and interpolation belong to {_names('smoothing')}")


def rules_with_sigma() -> str:
    """The registered rules that have a width, as a layer names them."""
    return _these(rule for rule in RULES.values() if "sigma" in rule.parameters)


def rules_of_whole_delays() -> str:
    """The registered rules that evaluate one tap at a whole delay."""
    return _these(rule for rule in RULES.values() if rule.evaluated is WHOLE or rule.whole is not round_delay)


def _names(attribute: str) -> str:
    return _these(rule for rule in RULES.values() if getattr(rule, attribute))


def _these(rules: Iterable[DelayRule]) -> str:
    return " or ".join(f'delay_gradient="{rule.name}"' for rule in rules)

"""The checks by key: each is a function of a :class:`~.subject.Case` that raises if the plug-in does not hold."""

from __future__ import annotations

import difflib
import importlib
import unittest
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .subject import Case

__all__ = ["Check", "NotApplicable", "all_checks", "check", "find_check", "refuse_unknown"]

Kind = Literal["neuron", "layer"]
_CHECKS: dict[str, Check] = {}
_THEMES = (
    "time", "reset", "inputs", "dtypes", "gradients", "copies", "training", "compile", "parallel", "snntorch",
    "spikingjelly",
)  # fmt: skip


class NotApplicable(unittest.SkipTest):
    """A check that asks for something that the plug-in does not have; pytest shows it as skipped."""


@dataclass(frozen=True)
class Check:
    """One check: what it is called on a command line, what it asserts, and why anybody should care."""

    key: str
    sentence: str
    why: str
    theme: str
    function: Callable[[Case], None]
    framework: str | None = None
    kind: Kind | None = None
    once: bool = False
    """Whether one form (steps or sequences) stands for all."""
    ahead: Callable[[], None] | None = None
    """Begins what the check will wait for, while others run."""


def check(
    key: str,
    why: str,
    *,
    framework: str | None = None,
    kind: Kind | None = None,
    once: bool = False,
    ahead: Callable[[], None] | None = None,
) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Add a function to the checks; its name is the sentence, its module the theme."""

    def added(function: Callable[[Case], None]) -> Callable[[Case], None]:
        if key in _CHECKS:
            raise ValueError(f"there are two checks named {key!r}")
        theme = function.__module__.rpartition("checks_")[2]
        _CHECKS[key] = Check(key, function.__name__.replace("_", " "), why, theme, function, framework, kind, once, ahead)
        return function

    return added


def all_checks() -> tuple[Check, ...]:
    """Every check, theme by theme."""
    for theme in _THEMES:  # importing one fills the table
        importlib.import_module(f".checks_{theme}", __package__)
    return tuple(sorted(_CHECKS.values(), key=lambda check: _THEMES.index(check.theme)))


def find_check(key: str) -> Check:
    """
    :raises ValueError: for a key that no check has, with the ones that come near.
    """
    refuse_unknown([key])
    return _CHECKS[key]


def refuse_unknown(keys: Iterable[str]) -> None:
    """
    :raises ValueError: for a key that no check has: an expected failure that is misspelt would never be met.
    """
    known = [each.key for each in all_checks()]
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=3, cutoff=0.4) or known
            raise ValueError(f"there is no check {key!r}; there is {', '.join(near)}")

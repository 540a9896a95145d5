"""The checks as pytest's parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from torch import nn

from .registry import Check, all_checks, refuse_unknown
from .running import perform
from .subject import Plugin, Subject

__all__ = ["parametrize_with_checks"]


def parametrize_with_checks(
    plugins: Mapping[str, Plugin | Callable[[], nn.Module]],
    *,
    expected_failures: Mapping[str, str] | None = None,
    without: Iterable[str] = (),
):
    """A pytest decorator: one test per check and plug-in, called with an argument ``check``.

    :param plugins: by name, a factory that makes a fresh module at every call, or a :class:`Plugin`.
    :param expected_failures: the reason by the key of the check, for all of them. A check that passes although it is
        expected to fail is a failure (pytest's strict ``xfail``), so that reasons do not outlive what they excuse.
    :param without: the keys of checks that are left out.
    :raises ValueError: for a key that no check has.

    Example::

        >>> import torch
        >>> @parametrize_with_checks({"linear": lambda: torch.nn.Linear(4, 3)})
        ... def test_linear(check):
        ...     check()
    """
    import pytest

    without, parameters = tuple(without), []
    refuse_unknown((*without, *(expected_failures or {})))
    for name, plugin in plugins.items():
        plugin = plugin if isinstance(plugin, Plugin) else Plugin(plugin)
        plugin = replace(plugin, expected_failures={**(expected_failures or {}), **plugin.expected_failures})
        refuse_unknown(plugin.expected_failures)
        subject = Subject(plugin)
        for check in all_checks():
            if check.key not in without and _may_apply(check, subject):
                reason = plugin.expected_failures.get(check.key)
                marks = () if reason is None else (pytest.mark.xfail(reason=reason, strict=True),)
                parameters.append(
                    pytest.param(functools.partial(perform, check, subject), id=f"{name}-{check.key}", marks=marks)
                )
    return pytest.mark.parametrize("check", parameters)


def _may_apply(check: Check, subject: Subject) -> bool:
    """A check of the other framework is left out; a factory that fails says so in every test."""
    try:
        return check.framework in (None, subject.framework.package)
    except Exception:
        return True

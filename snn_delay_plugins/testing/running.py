"""Running checks: one by one for pytest, all of them for a report."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from .processes import in_worker
from .registry import Check, NotApplicable, all_checks, find_check, refuse_unknown
from .subject import Plugin, Subject

__all__ = ["ConformanceError", "Report", "Result", "check_layer", "check_neuron", "check_plugin", "perform"]

Outcome = Literal["passed", "failed", "skipped", "expected failure", "passed unexpectedly"]


class ConformanceError(AssertionError):
    """A plug-in does not hold what its framework's users expect; the report says what."""


@dataclass(frozen=True)
class Result:
    """What came of one check."""

    check: Check
    outcome: Outcome
    message: str = ""
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return self.outcome in ("failed", "passed unexpectedly")


@dataclass(frozen=True)
class Report:
    """The results of every check of one plug-in; ``print(report)`` shows them."""

    name: str
    description: str
    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        return not any(result.bad for result in self.results)

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for result in self.results:
            found[result.outcome] = found.get(result.outcome, 0) + 1
        return found

    def __str__(self) -> str:
        width = max((len(result.check.key) for result in self.results), default=0)
        lines = [f"{self.name}: {self.description}"]
        for result in self.results:
            outcome = result.outcome.upper() if result.bad else result.outcome
            line = f"  {result.check.key:{width}}  {outcome:16}  {result.message or result.check.sentence}"
            lines.append(line.rstrip())
        counts = ", ".join(f"{number} {outcome}" for outcome, number in self.counts().items())
        seconds = sum(result.seconds for result in self.results)
        return "\n".join((*lines, f"  {counts}; {seconds:.1f} s"))


def perform(check: Check, subject: Subject) -> None:
    """Run one check in every form of the plug-in.

    :raises NotApplicable: if it applies to none of them.
    :raises AssertionError: if the plug-in does not hold it.
    """
    with _silent():
        if check.framework is not None and subject.framework.package != check.framework:
            raise NotApplicable(f"is for {check.framework} alone")
        if check.kind is not None and subject.kind != check.kind:
            raise NotApplicable(f"is for a {check.kind} alone")
        cases = subject.cases()
    reasons = []
    for case in cases[:1] if check.once else cases:
        try:
            with subject.framework.alone(), _silent():
                check.function(case)
        except NotApplicable as reason:
            reasons.append(str(reason))
        except Exception as error:
            where = "" if check.once or len(cases) == 1 else f"[{case.form}] "
            said = str(error)
            if not isinstance(error, AssertionError):
                said = f"{check.sentence}: raised {type(error).__name__}: {said}"
            with subject.framework.alone(), _silent():
                hints = case.hints()
            raise AssertionError(f"{where}{said}{hints}") from error
    if reasons and len(reasons) == (1 if check.once else len(cases)):
        raise NotApplicable(reasons[0])


@contextmanager
def _silent() -> Iterator[None]:
    """Modules are tried with inputs that their users would be warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def result_of(check: Check, subject: Subject) -> Result:
    expected = subject.plugin.expected_failures.get(check.key)
    start = time.perf_counter()
    try:
        perform(check, subject)
    except NotApplicable as reason:
        outcome, message = "skipped", str(reason)
    except Exception as error:
        outcome, message = ("failed", str(error)) if expected is None else ("expected failure", expected)
    else:
        outcome, message = ("passed", "") if expected is None else ("passed unexpectedly", f"although: {expected}")
    return Result(check, outcome, " ".join(message.split()), time.perf_counter() - start)


def check_plugin(
    plugin: Plugin | Callable[[], nn.Module],
    *,
    name: str | None = None,
    checks: Iterable[str] | None = None,
    on_fail: Literal["raise", "return"] = "raise",
    **keywords,
) -> Report:
    """Every check over one plug-in, a neuron or a layer.

    :param plugin: a :class:`Plugin`, or a factory that makes a fresh module at every call.
    :param name: in the report; None: the class's.
    :param checks: the keys of some checks; None: all.
    :param on_fail: ``"return"``: the report says what failed, and nothing is raised.
    :param keywords: those of :class:`Plugin`, if a factory is given.
    :raises ConformanceError: if a check fails, or one passes that is expected to fail.
    :raises UnclearPlugin: if something has to be said with a keyword.
    :raises ValueError: for a key that no check has.

    Example::

        >>> import torch
        >>> report = check_plugin(lambda: torch.nn.Linear(4, 3), checks=["batch-equals-samples", "deepcopy"])
        >>> report.ok, report.counts()
        (True, {'passed': 2})
    """
    if on_fail not in ("raise", "return"):
        raise ValueError(f'on_fail must be "raise" or "return", got {on_fail!r}')
    plugin = replace(plugin, **keywords) if isinstance(plugin, Plugin) else Plugin(plugin, **keywords)
    refuse_unknown(plugin.expected_failures)
    if in_worker():  # which loads the script that this call stands in
        return Report(name or "", "", ())
    chosen = all_checks() if checks is None else tuple(find_check(key) for key in checks)
    subject = Subject(plugin)
    with _silent():
        name, description = name or subject.title, repr(subject).partition(": ")[2]
    for each in {each.ahead for each in chosen if each.ahead is not None}:
        each()
    report = Report(name, description, tuple(result_of(each, subject) for each in chosen))
    if on_fail == "raise" and not report.ok:
        raise ConformanceError(f"\n{report}")
    return report


def check_neuron(
    factory: Callable[[], nn.Module], *, expected_failures: Mapping[str, str] | None = None, **keywords
) -> Report:
    """:func:`check_plugin` for a neuron: what its factory makes gives spikes.

    Example::

        >>> import snntorch
        >>> report = check_neuron(lambda: snntorch.Leaky(beta=0.9), checks=["causal", "freed"], on_fail="return")
        >>> [result.outcome for result in report.results]
        ['passed', 'failed']
    """
    return check_plugin(factory, kind="neuron", expected_failures=expected_failures or {}, **keywords)


def check_layer(
    factory: Callable[[], nn.Module], *, expected_failures: Mapping[str, str] | None = None, **keywords
) -> Report:
    """:func:`check_plugin` for a layer: what its factory makes takes spikes and gives currents.

    Example::

        >>> import torch
        >>> check_layer(lambda: torch.nn.Linear(4, 3), checks=["non-contiguous"]).ok
        True
    """
    return check_plugin(factory, kind="layer", expected_failures=expected_failures or {}, **keywords)

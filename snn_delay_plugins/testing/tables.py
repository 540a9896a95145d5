"""Reports and checks as tables of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from .registry import Check
from .running import Report

__all__ = ["as_markdown", "checks_as_markdown"]

_SIGNS = {"passed": "yes", "skipped": "-"}


def as_markdown(reports: Sequence[Report]) -> str:
    """One row a check, one column a plug-in; what does not hold has a number, and beneath the table its reason."""
    checks = list(dict.fromkeys(result.check for report in reports for result in report.results))
    reasons: dict[str, int] = {}
    rows = [["check", *(report.name for report in reports)], ["---"] * (len(reports) + 1)]
    for check in checks:
        row = [f"`{check.key}`"]
        for report in reports:
            (result,) = [each for each in report.results if each.check is check] or [None]
            if result is None or result.outcome in _SIGNS:
                row.append("" if result is None else _SIGNS[result.outcome])
            else:
                number = reasons.setdefault(result.message, len(reasons) + 1)
                row.append(f"no ({number})" if result.outcome != "passed unexpectedly" else f"yes! ({number})")
        rows.append(row)
    totals = ["*of those that apply*"]
    for report in reports:
        counts = report.counts()
        totals.append(f"*{counts.get('passed', 0)} of {len(report.results) - counts.get('skipped', 0)}*")
    rows.append(totals)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return "\n".join((table, "", *(f"{number}. {reason}" for reason, number in reasons.items())))


def checks_as_markdown(checks: Sequence[Check]) -> str:
    """What each check asserts, and why; a table for every theme."""
    parts = []
    for theme, group in groupby(checks, key=lambda check: check.theme):
        parts += [f"### {theme}", "", "| check | asserts that | because |", "|---|---|---|"]
        parts += [f"| `{check.key}` | {check.sentence} | {check.why} |" for check in group] + [""]
    return "\n".join(parts).rstrip()

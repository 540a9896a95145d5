"""``python -m snn_delay_plugins.testing "my_plugin:MyNeuron(beta=0.9)"``: the checks from a command line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from .. import frameworks
from .registry import all_checks
from .running import Report, check_plugin
from .sending import module_of_file
from .subject import Plugin, UnclearPlugin
from .tables import as_markdown, checks_as_markdown

__all__ = ["Written", "main"]


@dataclass(frozen=True)
class Written:
    """A factory that evaluates an expression in the names of a module, at every call anew; it can be sent to a process.

    Example::

        >>> Written("torch.nn", "Linear(4, 3)")()
        Linear(in_features=4, out_features=3, bias=True)
    """

    source: str
    expression: str

    def value(self):
        module = module_of_file(self.source) if self.source.endswith(".py") else importlib.import_module(self.source)
        return eval(self.expression, {"torch": torch, **vars(module)})

    def __call__(self) -> nn.Module:
        value = self.value()
        return value if isinstance(value, nn.Module) else value()


def _plugins(target: str) -> dict[str, Plugin]:
    source, colon, expression = target.partition(":")
    if not colon or not expression:
        raise SystemExit(
            f"{target!r}: give MODULE:EXPRESSION, as in 'my_plugin:MyNeuron(beta=0.9)' or 'my_file.py:PLUGINS'"
        )
    written = Written(source, expression)
    try:
        value = written.value()
    except Exception as error:
        raise SystemExit(f"{target}: {type(error).__name__}: {error}") from error
    found = value if isinstance(value, Mapping) else {expression: written if not isinstance(value, Plugin) else value}
    return {str(name): each if isinstance(each, Plugin) else Plugin(each) for name, each in found.items()}


def _said(arguments: argparse.Namespace) -> dict:
    said = {name: getattr(arguments, name) for name in ("kind", "form", "framework")}
    if arguments.shape:
        said["shape"] = tuple(int(size) for size in arguments.shape.split(","))
    return {name: value for name, value in said.items() if value is not None}


def _expected(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, sign, reason = pair.partition("=")
        if not sign or not reason:
            raise SystemExit(f"--expect {pair!r}: give KEY=REASON")
        found[key] = reason
    return found


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m snn_delay_plugins.testing", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="MODULE:EXPRESSION", help="a class, a call, a Plugin, or a dict of them"
    )
    parser.add_argument("--kind", choices=("neuron", "layer"))
    parser.add_argument("--form", choices=("step", "sequence"), help="of a module of snnTorch")
    parser.add_argument("--framework", choices=[framework.name for framework in frameworks.known()])
    parser.add_argument("--shape", help="of one sample at one step: 5 or 2,8,8")
    parser.add_argument("--checks", help="the keys of some, with commas between")
    parser.add_argument("--expect", action="append", default=[], metavar="KEY=REASON", help="a failure that is expected")
    parser.add_argument("--markdown", action="store_true", help="one table of all, with reasons, for documentation")
    parser.add_argument("--list", action="store_true", help="the checks by name")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """The exit status: 1 if a check failed, or passed unexpectedly."""
    arguments = _arguments(given)
    sys.path.insert(0, "")  # as `python -m` of a script in this folder would find it
    if arguments.list:
        print(checks_as_markdown(all_checks()) if arguments.markdown else _listed())
        return 0
    if not arguments.targets:
        raise SystemExit("nothing to check: give MODULE:EXPRESSION, as in 'my_plugin:MyNeuron(beta=0.9)'")
    chosen = arguments.checks.split(",") if arguments.checks else None
    said, expected, reports = _said(arguments), _expected(arguments.expect), []
    for target in arguments.targets:
        for name, plugin in _plugins(target).items():
            plugin = replace(plugin, expected_failures={**plugin.expected_failures, **expected})
            reports.append(_report(plugin, name, chosen, said))
            if not arguments.markdown:
                print(reports[-1], flush=True)
            else:
                print(f"{name}: {reports[-1].counts()}", file=sys.stderr, flush=True)
    if arguments.markdown:
        print(as_markdown(reports))
    return 0 if all(report.ok for report in reports) else 1


def _report(plugin: Plugin, name: str, checks: list[str] | None, said: dict) -> Report:
    try:
        return check_plugin(plugin, name=name, checks=checks, on_fail="return", **said)
    except (UnclearPlugin, ValueError) as error:
        raise SystemExit(f"{name}: {error}") from error


def _listed() -> str:
    width = max(len(check.key) for check in all_checks())
    return "\n".join(f"{check.key:{width}}  {check.sentence}" for check in all_checks())

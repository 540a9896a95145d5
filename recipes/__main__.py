"""``python -m recipes --list | run NAME | table NAME | plot NAME | tune NAME | predict RUN FILE | export RUN | download
DATA``."""

import argparse
import ast
import contextlib
import importlib
import logging
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from .engine import stopping
from .engine.command import terminal
from .engine.command.program import PROGRAM

HERE = Path(__file__).parent

ACTIONS = {
    "run": "do what is not done yet, then show and write the result",
    "table": "show and write the table of what has been run",
    "plot": "draw what has been run",
    "tune": "compare settings by cross-validation over the speakers of the training set",
}
OF_RUN = ("accelerator", "devices", "num_nodes", "tensorboard")  # what a finished run was trained on is in the table


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    terminal.write_what_it_can()
    try:
        with _only_ours_are_errors(), stopping.by_signals():
            return _main(arguments)
    except stopping.Stopped as stop:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("Stopped. The same command goes on from where this one was.", file=sys.stderr)
        return stop.code
    except BrokenPipeError:  # what reads our output wants no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(arguments: list[str]) -> int:
    known, here = titles(), find_recipes()
    try:
        found = {name: here[name] for name in here if name in arguments}
    except ModuleNotFoundError as error:
        return _missing(error)
    parser = _parser(known, found, arguments)
    given = parser.parse_args(arguments)
    if given.list:
        width = max(map(len, known)) + 2
        for name, title in known.items():
            print(f"{name:{width}}{title}")
        return 0
    if given.action is None:
        parser.error(
            "say what to do: --list, run NAME, table NAME, plot NAME, tune NAME, predict RUN FILE, export RUN or "
            "download DATA"
        )
    if given.action in _OF_RUNS:
        return _perform("", _OF_RUNS[given.action], given)
    return _perform(given.name, _DOWNLOAD if given.action == "download" else found[given.name], given)


def titles() -> dict[str, str]:
    """Every module of this package that defines RECIPE, by name, and the first paragraph of its docstring; nothing is
    imported for it."""
    found = {}
    for module in pkgutil.iter_modules([str(HERE)]):
        path = HERE / f"{module.name}.py"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if module.name != "__main__" and "\nRECIPE" in text:
            paragraph, _, _ = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")
            found[module.name] = " ".join(paragraph.split())
    return found


def find_recipes() -> Mapping:
    """Every RECIPE of this package, by name; imported, which takes seconds, when it is asked for."""
    return _Recipes()


class _Recipes(Mapping):
    def __init__(self):
        self._names = list(titles())

    def __getitem__(self, name: str):
        if name not in self._names:
            raise KeyError(name)
        return importlib.import_module(f".{name}", __package__).RECIPE

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Download:
    """Fetch data that recipes will need, for a machine that will have no network when they run."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        from .datasets import published

        parser.add_argument("name", choices=published(), metavar="DATA", help=", ".join(published()))

    def download(self, given: argparse.Namespace) -> int:
        from .datasets import published
        from .engine.files import downloads

        print(f"{given.name} is in {downloads.obtain(published()[given.name])}")
        return 0


_DOWNLOAD = _Download()


class _Predict:
    """What a trained network says of recordings."""

    what = "say what recordings are, by a finished run or a model"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        from .engine.command import predict

        predict.add_options(parser)

    def predict(self, given: argparse.Namespace) -> int:
        from .engine.command import predict
        from .tables import TABLES

        return predict.predict(given, TABLES)


class _Export:
    """A trained network for deployment."""

    what = "write a finished run's weights, whole delays and synapses for deployment, or a model to hand on"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        from .engine.command import export

        export.add_options(parser)

    def export(self, given: argparse.Namespace) -> int:
        from .engine.command import export
        from .tables import TABLES

        return export.export(given, TABLES)


_OF_RUNS = {"predict": _Predict(), "export": _Export()}


def _perform(name: str, what, given: argparse.Namespace) -> int:
    import torch

    from .engine.errors import DataError, OptionError, reason

    def refuse(why: object) -> int:
        print(f"{' '.join(filter(None, (PROGRAM, given.action, name)))}: error: {why}", file=sys.stderr)
        return 2

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    os.environ["MPLBACKEND"] = "Agg"  # pictures are files; one that does not exist would end every import of matplotlib
    for option in OF_RUN if given.action in ("table", "plot") else ():
        if getattr(given, option, None):
            return refuse(f"--{option.replace('_', '-')} is for training alone")
    if getattr(given, "threads", None):
        torch.set_num_threads(given.threads)
    try:
        return getattr(what, given.action)(given)
    except (OptionError, DataError) as error:
        return refuse(error)
    except ModuleNotFoundError as error:  # Lightning, matplotlib, ...: imported when they are needed
        return _missing(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        return refuse(reason(error))


def _missing(error: ModuleNotFoundError) -> int:
    """Say which package of the extra is not there; one of our own files is a fault of ours."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "snn_delay_plugins", __package__.partition(".")[0]):
        raise error
    print(f"{PROGRAM}: {error.name} is missing: pip install 'snn_delay_plugins[recipes]'", file=sys.stderr)
    return 1


@contextlib.contextmanager
def _only_ours_are_errors() -> Iterator[None]:
    """``python -W error`` is meant for the library: what other packages warn of, now or in a newer version, must not end a
    training."""
    with warnings.catch_warnings():
        for action, _, category, module, _ in list(warnings.filters):
            if action == "error" and module is None:
                warnings.filterwarnings("default", category=category, module=r"(?!snn_delay_plugins\b)")
        yield


class _Parser(argparse.ArgumentParser):
    """One line for an error, without the usage before it."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see --help)\n")


def _parser(known: dict[str, str], found: dict, arguments: list[str]) -> argparse.ArgumentParser:
    """Of all recipes by name; with the options of those that have been imported."""
    parser = _Parser(prog=PROGRAM, description=sys.modules[__package__].__doc__, allow_abbrev=False)
    parser.add_argument("--list", action="store_true", help="name the recipes")
    actions = parser.add_subparsers(dest="action", metavar="run | table | plot | tune | predict | export | download")
    for action, what in ACTIONS.items():
        of_action = actions.add_parser(action, help=what, description=what, allow_abbrev=False)
        names = of_action.add_subparsers(dest="name", metavar="NAME", required=True)
        for name, title in known.items():
            if name not in found:
                names.add_parser(name, help=title.replace("%", "%%"), allow_abbrev=False)
            elif hasattr(found[name], action):
                _add_recipe(names, found[name], title, action)
    what = "fetch a data set now, to be used without a network later"
    of_download = actions.add_parser("download", help=what, description=what, allow_abbrev=False)
    if "download" in arguments:
        _DOWNLOAD.add_options(of_download)
    for action, command in _OF_RUNS.items():
        of_runs = actions.add_parser(action, help=command.what, description=command.what, allow_abbrev=False)
        if action in arguments:
            command.add_options(of_runs)
    return parser


def _add_recipe(names, recipe, title: str, action: str) -> None:
    from .engine.command import options

    of_recipe = names.add_parser(
        recipe.name,
        help=title.replace("%", "%%"),
        description=recipe.title,
        epilog=recipe.paper_used,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    recipe.add_options(of_recipe)
    if action in ("run", "table") and getattr(recipe, "has_energy", False):
        options.add_energy(of_recipe)
    if action == "tune":
        options.add_folds(of_recipe)
    if action == "plot" and getattr(recipe, "redraws", False):
        options.add_json(of_recipe)


if __name__ == "__main__":
    sys.exit(main())

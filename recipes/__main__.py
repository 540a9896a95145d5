"""``python -m recipes --list | run NAME | table NAME | plot NAME | tune NAME | download DATA``."""

import argparse
import importlib
import logging
import pkgutil
import sys

import recipes

ACTIONS = {
    "run": "do what is not done yet, then show and write the result",
    "table": "show and write the table of what has been run",
    "plot": "draw what has been run",
    "tune": "compare settings by cross-validation over the speakers of the training set",
}
OF_RUN = ("accelerator", "devices", "tensorboard")  # what a finished run was trained on is in the table


def main(arguments: list[str] | None = None) -> int:
    try:
        found = find_recipes()
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "recipes":
            raise
        print(
            f"python -m recipes: {error.name} is missing: pip install 'snn_delay_plugins[recipes]'",
            file=sys.stderr,
        )
        return 1
    parser = _parser(found)
    given = parser.parse_args(arguments)
    if given.list:
        for recipe in found.values():
            print(f"{recipe.name:20}{recipe.title}")
        return 0
    if given.action is None:
        parser.error("say what to do: --list, run NAME, table NAME, plot NAME, tune NAME or download DATA")
    return _perform(given.name, _DOWNLOAD if given.action == "download" else found[given.name], given)


def find_recipes() -> dict:
    """Every module of this package that defines RECIPE, by name."""
    names = [
        module.name
        for module in pkgutil.iter_modules(recipes.__path__)
        if module.name not in ("__main__", "engine")
    ]
    modules = [importlib.import_module(f"recipes.{name}") for name in names]
    return {module.RECIPE.name: module.RECIPE for module in modules}


class _Download:
    """Fetch data that recipes will need, for a machine that will have no network when they run."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", choices=self.published(), metavar="DATA", help=", ".join(self.published()))

    def published(self) -> dict:
        from recipes.engine import braille, downloads

        return {data.name: data for data in (downloads.SHD, downloads.SSC, downloads.GSC, braille.PUBLISHED)}

    def download(self, given: argparse.Namespace) -> int:
        from recipes.engine import downloads

        print(f"{given.name} is in {downloads.obtain(self.published()[given.name])}")
        return 0


_DOWNLOAD = _Download()


def _perform(name: str, what, given: argparse.Namespace) -> int:
    import torch

    from recipes.engine.errors import DataError
    from recipes.engine.options import OptionError

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for option in OF_RUN if given.action in ("table", "plot") else ():
        if getattr(given, option, None):
            print(f"python -m recipes {given.action} {name}: error: --{option} is for training alone", file=sys.stderr)
            return 2
    if getattr(given, "threads", None):
        torch.set_num_threads(given.threads)
    try:
        return getattr(what, given.action)(given)
    except (OptionError, DataError) as error:
        print(f"python -m recipes {given.action} {name}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from where this one was.", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """One line for an error, without the usage before it."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def _parser(found: dict) -> argparse.ArgumentParser:
    from recipes.engine import options  # after find_recipes, which says what is not installed

    parser = _Parser(prog="python -m recipes", description=recipes.__doc__, allow_abbrev=False)
    parser.add_argument("--list", action="store_true", help="name the recipes")
    actions = parser.add_subparsers(dest="action", metavar="run | table | plot | tune | download")
    for action, what in ACTIONS.items():
        of_action = actions.add_parser(action, help=what, description=what, allow_abbrev=False)
        names = of_action.add_subparsers(dest="name", metavar="NAME", required=True)
        for recipe in (recipe for recipe in found.values() if hasattr(recipe, action)):
            of_recipe = names.add_parser(
                recipe.name,
                help=recipe.title,
                description=recipe.title,
                epilog=recipe.paper_used,
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
            recipe.add_options(of_recipe)
            if action == "tune":
                options.add_folds(of_recipe)
    what = "fetch a data set now, to be used without a network later"
    _DOWNLOAD.add_options(actions.add_parser("download", help=what, description=what, allow_abbrev=False))
    return parser


if __name__ == "__main__":
    sys.exit(main())

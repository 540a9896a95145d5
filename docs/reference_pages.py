"""Writes a page of the reference for every public module, and turns links to files outside of ``docs`` into words."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import snn_delay_plugins

GROUPS = {
    "snnTorch": ["snntorch"],
    "SpikingJelly": ["spikingjelly"],
    "EventProp": ["eventprop", "eventprop_linear", "eventprop_linear_readout", "eventprop_convolution",
                  "eventprop_discrete", "events"],
    "Training": ["calibration", "schedules", "parameters", "bounds", "delay_options", "registration"],
    "Pictures": ["plot"],
    "Deployment": ["nir", "operations", "quantisation"],
    "Neurons and delay rules as data": ["models", "delays"],
    "The maths": ["functional"],
    "For maintainers": ["testing", "frameworks"],
}  # fmt: skip
"""Of the index, in this order; what is in none of them comes under "More"."""
LEFT_OUT = {"kernels", "callers", "checks", "timeless", "transforms"}
"""No user calls them."""


def public_modules() -> dict[str, list[str]]:
    """Name of every public module -> its public names. A package stands for its files."""
    found = {}
    for info in pkgutil.iter_modules(snn_delay_plugins.__path__):
        if info.name.startswith("_") or info.name in LEFT_OUT:
            continue
        module = importlib.import_module(f"snn_delay_plugins.{info.name}")
        names = getattr(module, "__all__", None)
        if names is None:
            continue
        if info.name == "functional":  # whose files say more together than their names in one row
            for file in pkgutil.iter_modules(module.__path__):
                part = importlib.import_module(f"snn_delay_plugins.functional.{file.name}")
                if getattr(part, "__all__", None) and set(part.__all__) <= set(names):
                    found[part.__name__] = list(part.__all__)
        else:
            found[module.__name__] = list(names)
    return found


def write(folder: Path) -> None:
    """``NAME.md`` for each of them and ``index.md``; files that are as they should be are left alone."""
    modules = public_modules()
    pages = {name.removeprefix("snn_delay_plugins."): _page(name, of) for name, of in modules.items()}
    pages["index"] = _index(modules)
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for stale in set(folder.glob("*.md")) - {folder / f"{name}.md" for name in pages}:
        stale.unlink()


def _page(module: str, names: list[str]) -> str:
    """What the module says of itself, then every name, also those that say nothing."""
    parts = [f".. automodule:: {module}\n   :no-members:\n"]
    for name in names:
        value = getattr(importlib.import_module(module), name)
        if isinstance(value, type):
            parts.append(f".. autoclass:: {module}.{name}\n   :members:\n")
        elif inspect.isroutine(value):
            parts.append(f".. autofunction:: {module}.{name}\n")
        elif not inspect.ismodule(value):
            parts.append(f".. autodata:: {module}.{name}\n   :no-value:\n")
    return f"# {module.removeprefix('snn_delay_plugins.')}\n\n```{{eval-rst}}\n" + "\n".join(parts) + "```\n"


def _index(modules: dict[str, list[str]]) -> str:
    short = [name.removeprefix("snn_delay_plugins.") for name in modules]
    groups = {title: [n for n in short if n in of or n.partition(".")[0] in of] for title, of in GROUPS.items()}
    placed = {name for of in groups.values() for name in of}
    if more := [name for name in short if name not in placed]:
        groups["More"] = more
    parts = [
        "# Reference\n\nEvery public name, by the module from which it is imported. Classes of a framework are imported "
        "from `snn_delay_plugins.snntorch` or `snn_delay_plugins.spikingjelly`; from `snn_delay_plugins` itself, too "
        "([where from](../running.md#from-where-to-import-a-class)).\n"
    ]
    for title, names in groups.items():
        parts.append(f"## {title}\n")
        parts += [f"- [`{n}`]({n}.md): {_first_sentence(f'snn_delay_plugins.{n}')}" for n in names]
        parts.append("\n```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```\n")
    return "\n".join(parts)


def _first_sentence(module: str) -> str:
    text = " ".join((importlib.import_module(module).__doc__ or "").split("\n\n")[0].split())
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    return re.split(r"(?<!\bFig)(?<!\bEq)(?<!\bal)\. ", text, maxsplit=1)[0].rstrip(".") + "."


_SHAPE = re.compile(r"(?<![`\w:])(?:\[[^\]\[`]*\*[^\]\[`]*\]|\([^()`]*, \*\w+\))(?!`)")
_BARS = re.compile(r"(?<![`|])\|(?=\w[^|`]*\|)([^|`\n]*)\|(?![`|_])")


def plain_words(app, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Shapes such as [T, N, *space] and sizes such as |tau - d|, which are markup in reST, are code on the page; and fields
    that stand together in the source, ``:param a, b:`` or two in a line, are told apart."""
    if what == "data" and "\n".join(lines).strip() == inspect.cleandoc(type(obj).__doc__ or "").strip():
        lines.clear()  # a number or dict that says nothing of itself has the words of all numbers or dicts
    told, example, indent, inside, literal = [], False, "", False, None
    for line in _equations_as_they_stand(lines):
        example = line.lstrip().startswith((">>>", "...")) or (example and bool(line.strip()))
        if literal is not None and line.strip() and _indent(line) <= literal:
            literal = None
        begins = line.rstrip().endswith("::")
        if (literal is None and begins) or line.lstrip().startswith(".. code-block::"):
            literal = _indent(line)
        if example or "math::" in line or (literal is not None and not begins):
            told.append(line)
            continue
        parts = line.split("``")  # every second one is code already
        parts[::2] = [_BARS.sub(r"``|\1|``", _SHAPE.sub(r"``\g<0>``", part)) for part in parts[::2]]
        fields = _FIELD.split("``".join(parts))
        if _FIELD.match(" " + line.lstrip()):
            indent, inside = line[: len(line) - len(line.lstrip())], True
        inside = inside and bool(line.strip())
        if len(fields) > 1 and not inside:  # behind a sentence
            fields.insert(1, "")
            inside = True
        told += [fields[0], *(indent + field for field in fields[1:])]
    lines[:] = [_PARAMETERS.sub(lambda found: found[0].replace(", ", ","), line) for line in told]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _equations_as_they_stand(lines: list[str]) -> list[str]:
    """Lines that are set in below a paragraph are equations here: reST would run them together as a quotation."""
    told, before = [], ""  # before: the last line that is not empty
    for i, line in enumerate(lines):
        below = line.startswith("  ") and i > 0 and not lines[i - 1].strip()
        if below and before and not before.startswith((" ", "*", "-", "..", ":", ">>>")) and not before.endswith("::"):
            told += [".. code-block:: text", ""]
        told.append(line)
        before = line if line.strip() else before
    return told


_FIELD = re.compile(r"(?<=\S) (?=:(?:param|raises|returns)\b[^:`]*: )|^ (?=:(?:param|raises|returns)\b)")
_PARAMETERS = re.compile(r"^\s*:(?:param|raises) [^:]*:")


def link_to_sources(app) -> None:
    """Links such as ``../recipes/engine/x.py`` lead out of the site: they are shown as the path that they name."""

    def outside(app, docname: str, source: list[str]) -> None:
        folder = Path(app.srcdir, docname).parent
        docs = Path(app.srcdir).resolve()

        def replaced(match: re.Match) -> str:
            text, target = match["text"], match["target"].partition("#")[0]
            path = (folder / target).resolve()
            if match["target"].startswith(("http", "#", "mailto:")) or not target:
                return match[0]
            if not path.is_relative_to(docs):
                return f"`{path.relative_to(docs.parent)}`" if text.strip("`") in (target, path.name) else text
            if path.is_dir() and (path / "README.md").exists():
                return f"[{text}]({target.rstrip('/')}/README.md)"
            return match[0]

        if docname == "index":  # pages that nobody has put into the navigation stand with the others
            others = sorted(path.stem for path in docs.glob("*.md") if f"\n{path.stem}\n" not in source[0])
            source[0] = source[0].replace(
                "\ntesting\n", "\n".join(["\ntesting", *(n for n in others if n != "index")]) + "\n"
            )
        source[0] = re.sub(r"(?<!!)\[(?P<text>[^\]\[]+)\]\((?P<target>[^)\s]+)\)", replaced, source[0])

    app.connect("source-read", outside)

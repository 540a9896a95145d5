"""``python docs/check_site.py SITE``: every public name is in the reference, every local link leads somewhere, no markup is
left over, no equation is broken. Prints what is not so, and ends with 1."""

import importlib
import re
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import reference_pages  # noqa: E402


class Page(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        self.links, self.anchors, self.texts = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id"))
        self.links += [given[name] for name in ("href", "src") if given.get(name)]
        if tag == "img" and not given.get("alt"):
            self.texts.append(f"picture without words: {given.get('src')}")


def missing_names(site: Path) -> list[str]:
    """Public names that no page of the reference describes."""
    anchors = {}
    for path in (site / "reference").glob("*.html"):
        anchors.update(dict.fromkeys(Page(path).anchors, path.name))
    missing = []
    for module, names in reference_pages.public_modules().items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            described = {f"{module}.{name}", f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"}
            if not described & set(anchors):
                missing.append(f"{module}.{name}: not in the reference")
    package = importlib.import_module("snn_delay_plugins")
    places = {name for names in reference_pages.public_modules().values() for name in names}
    modules = {name.split(".")[1] for name in reference_pages.public_modules()}
    missing += [
        f"snn_delay_plugins.{name}: not in the reference"
        for name in package.__all__
        if name not in places | modules | {"__version__"}
    ]
    return missing


def broken_links(site: Path) -> list[str]:
    """Links within the site to what is not there."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        broken += [f"{where}: {text}" for text in page.texts]
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith(("data:", "javascript:")):
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                broken.append(f"{where}: {link} is not there")
            elif parts.fragment and target in pages:
                anchors = pages[target].anchors
                if not {parts.fragment, urllib.parse.unquote(parts.fragment)} & anchors:
                    broken.append(f"{where}: {link} has no such place")
    return broken


_MARKUP = re.compile(r":(?:class|func|mod|math|data|meth|attr):`[^<`]*|:(?:param|raises|returns)\b[^<:]{0,40}:")


def raw_markup(site: Path) -> list[str]:
    """Roles that were not read."""
    found = []
    for path in site.rglob("*.html"):
        if "_modules" in path.parts or path.name in ("genindex.html", "search.html"):
            continue
        text = re.sub(
            r"(?s)<(pre|code|script|style|span class=\"pre\")[^>]*>.*?</(pre|code|script|style|span)>", "", path.read_text()
        )
        found += [f"{path.relative_to(site)}: {markup}" for markup in _MARKUP.findall(text)]
    return found


_EQUATION = re.compile(r'(?s)<div class="math[^"]*"[^>]*>(.*?)</div>')


def broken_equations(site: Path) -> list[str]:
    """Those that MathJax shows as an error: an & that aligns nothing."""
    return [
        f"{path.relative_to(site)}: an & in {' '.join(equation.split())[:60]}"
        for path in site.rglob("*.html")
        for equation in _EQUATION.findall(path.read_text(encoding="utf-8"))
        if "&amp;" in equation and "\\begin{" not in equation
    ]


def main(site: Path) -> int:
    faults = [*missing_names(site), *broken_links(site), *raw_markup(site), *broken_equations(site)]
    for fault in sorted(set(faults)):
        print(fault)
    names = sum(map(len, reference_pages.public_modules().values()))
    print(f"{names} public names, {len(list(site.rglob('*.html')))} pages, {len(set(faults))} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

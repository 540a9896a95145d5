"""The lines of the how-to pages, of the answers in ``docs/announce`` and of ``docs/dcls.md`` run as they stand, each page
from its top."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {path: path.read_text(encoding="utf-8") for of in ("how-to", "announce") for path in (DOCS / of).glob("*.md")}
PAGES[DOCS / "dcls.md"] = (DOCS / "dcls.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
NEEDS = ("snntorch", "spikingjelly", "h5py", "matplotlib", "nir")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("path", sorted(path for path in PAGES if BLOCK.search(PAGES[path])), ids=lambda path: path.stem)
def test_the_lines_of_a_page_run(path, monkeypatch, tmp_path):
    code = "\n".join(BLOCK.findall(PAGES[path]))
    for needed in NEEDS:
        if re.search(rf"\b{needed}\b|\bplot\b" if needed == "matplotlib" else rf"\b{needed}\b", code):
            pytest.importorskip(needed)
    if "import recipes" in code:
        for needed in ("h5py", "lightning", "spikingjelly"):
            pytest.importorskip(needed)
        monkeypatch.setenv("SNN_DELAY_PLUGINS_CACHE", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    exec(compile(code, str(path), "exec"), {"__name__": "page"})


def test_no_page_is_longer_than_a_reader_would_read():
    assert PAGES and max(text.count("\n") for text in PAGES.values()) < 130

"""The snippets of docs/nir.md and docs/export.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("nir")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("snntorch")
pytest.importorskip("spikingjelly")

DOCS = Path(__file__).resolve().parents[2] / "docs"


SAID = {"nir.md": "0: a couples the membrane potential", "export.md": "nJ per sample"}


@pytest.mark.parametrize("page", SAID)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_lines_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    if page == "export.md" and torch.__version__ < "2.9":
        pytest.skip("older exporters do not say that they are at work")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names: dict = {}
    for block in blocks:
        exec(compile(block, f"docs/{page}", "exec"), names)
    assert SAID[page] in capsys.readouterr().out

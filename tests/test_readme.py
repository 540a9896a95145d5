"""The code of README.md runs as it stands, and learns."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).resolve().parents[1] / "README.md"
CHANCE = math.log(20)


def block(heading: str) -> str:
    """The first Python block under ``heading``."""
    section = README.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)


def losses(heading: str, capsys) -> list[float]:
    """What the block prints."""
    exec(compile(block(heading), f"README.md, {heading}", "exec"), {"__name__": "readme"})
    return [float(line) for line in capsys.readouterr().out.split()]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("framework", ["snnTorch", "SpikingJelly"])
def test_the_lines_of_a_framework_learn(framework, seed, capsys):
    pytest.importorskip(framework.lower())
    torch.manual_seed(seed)
    printed = losses(framework, capsys)
    assert min(printed[-3:]) < CHANCE / 2, printed


@pytest.mark.parametrize("page, heading", [(README, "First example"), (README.parent / "docs" / "quickstart.md", "")])
@pytest.mark.parametrize("seed", range(5))
def test_the_first_example_learns_an_order(page, heading, seed, capsys):
    pytest.importorskip("snntorch")
    text = page.read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2] if heading else text
    code = re.search(r"```python\n(import torch.*?)```", section, re.DOTALL)[1]
    code = code.replace("torch.manual_seed(0)", f"torch.manual_seed({seed})")
    exec(compile(code, str(page), "exec"), {"__name__": "readme"})
    loss, accuracy = re.fullmatch(r"loss ([\d.]+), accuracy ([\d.]+)%\n", capsys.readouterr().out).groups()
    assert float(loss) < math.log(2) / 2 and float(accuracy) > 90


@pytest.mark.parametrize("seed", range(5))
def test_the_lines_of_eventprop_learn(seed, capsys):
    torch.manual_seed(seed)
    printed = losses("EventProp", capsys)
    assert printed[-1] < CHANCE / 2 and printed[-1] < printed[0], printed

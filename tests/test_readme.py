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


@pytest.mark.parametrize("seed", range(5))
def test_the_lines_of_eventprop_learn(seed, capsys):
    torch.manual_seed(seed)
    printed = losses("EventProp", capsys)
    assert printed[-1] < CHANCE / 2 and printed[-1] < printed[0], printed

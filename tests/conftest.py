"""Fixtures of every test: one seed, one thread, and the folder of shared papers and data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of papers and recordings beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here: the papers and recordings that this test reads lie there")
    return SHARED


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

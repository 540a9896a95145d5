"""The script for a GPU, as far as it goes without one: in Triton's interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed: the CUDA kernels cannot be tested here")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "on_gpu.py"


@pytest.fixture
def dry_run(tmp_path):
    """Exit status, results and the table of a dry run."""

    def run(*options):
        command = [sys.executable, str(SCRIPT), "--dry-run", "--into", str(tmp_path), "--jobs", "1", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
        assert "Traceback" not in done.stderr, done.stderr[-2000:]
        return done.returncode, json.loads((tmp_path / "dry_run.json").read_text()), (tmp_path / "dry_run.md").read_text()

    return run


def test_the_whole_script_runs_without_a_gpu(dry_run):
    status, results, table = dry_run("--minutes", "20", "--seed", "1")
    assert status == 0, table
    assert len(results["checks"]) >= 37 and all(row["equal"] for row in results["checks"])
    assert results["tests"][0]["passed"] and "collected" in results["tests"][0]["tests"]
    assert len(results["bad input"]) >= 16 and all(row["refused"] for row in results["bad input"])
    cases = [row for section in ("neurons", "delays", "eventprop") for row in results[section]]
    assert all(row["ms"] > 0 for row in cases if "skipped" not in row) and "EventProp epoch" in table
    shares = [row["share"] for row in cases if "share" in row]
    assert len(shares) >= 4 and all(share > 0 for share in shares)


def test_a_section_that_takes_too_long_is_said_and_nothing_else_is_lost(dry_run):
    status, results, table = dry_run("--minutes", "0.02", "--sections", "limits", "checks")
    assert status == 1 and "stopped: its time was over" in table
    assert results["checks"][-1]["incomplete"] == "checks"


def test_every_kernel_has_been_compiled_for_both_cards_and_is_in_the_table_of_the_page(monkeypatch):
    """A kernel is what is launched anywhere in the package; ``benchmarks/gpu_kernels.py`` compiles them all again."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu_kernels

    rows = json.loads((SCRIPT.parents[1] / "docs" / "benchmarks" / "gpu" / "kernels.json").read_text())
    page = (SCRIPT.parents[1] / "docs" / "gpu.md").read_text()
    assert not [row for row in rows if "error" in row or row["atomics"]]
    for capability in gpu_kernels.CAPABILITIES:
        assert {row["kernel"] for row in rows if row["sm"] == capability} == gpu_kernels.in_the_source()
    assert gpu_kernels.table(rows) in page
    spilled = {row["kernel"] for row in rows if row["spilled bytes"]}
    reasons = page.split("\nSpills: ")[1].split("\n\n")[0]
    assert all(f"`{kernel}`" in reasons for kernel in spilled)

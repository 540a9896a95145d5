"""The notebooks of the documentation, which the build of the site executes: what they say where an extra is missing."""

import subprocess
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "tutorials"


def test_a_notebook_without_its_extra_says_in_its_first_cell_what_to_install():
    code = f"""
import json, pathlib, sys
for absent in ("matplotlib", "snntorch", "spikingjelly"):
    sys.modules[absent] = None
for path in sorted(pathlib.Path({str(NOTEBOOKS)!r}).glob("*.ipynb")):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
    print(path.stem, first.splitlines()[0])
    for line in first.splitlines()[1:]:
        try:
            exec(line)
        except ImportError as error:
            print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    plot = "snn_delay_plugins.plot needs matplotlib: pip install 'snn_delay_plugins[plot]'"
    said = done.stdout.splitlines()
    for name, extra in (("eventprop", "plot"), ("snntorch", "snntorch,plot"), ("spikingjelly", "spikingjelly,plot")):
        assert f"{name} # pip install 'snn_delay_plugins[{extra}]'" in said
    assert said.count(plot) == 3
    for extra in ("snntorch", "spikingjelly"):
        assert any(f"pip install 'snn_delay_plugins[{extra}]'" in line and "#" not in line for line in said)

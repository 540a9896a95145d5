"""Terminals, folders and systems that lack what others have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.engine.files import places

ROOT = Path(__file__).parents[2]
COMMAND = ["-m", "recipes", "run", "deckers_table1", "--smoke", "--only", "lif,adlif", "--epochs", "1", "--threads", "1"]


def python(*arguments, **environment):
    """A process to be waited for."""
    inherited = {name: value for name, value in os.environ.items() if environment.get(name, "") is not None}
    given = {name: value for name, value in environment.items() if value is not None}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = inherited | {"PYTHONPATH": str(ROOT)} | given
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, **pipes)


def test_without_home_terminal_backend_and_with_warnings_as_errors_a_table_is_made_all_the_same(tmp_path):
    (tmp_path / "tmp").mkdir()
    process = python(
        "-W", "error", *COMMAND, "--out", str(tmp_path / "out"),
        SNN_DELAY_PLUGINS_CACHE=None, SNN_DELAY_PLUGINS_DATA=None, XDG_CACHE_HOME=None, HOME="/dev/null/nobody",
        TMPDIR=str(tmp_path / "tmp"), MPLBACKEND="nonsense", MPLCONFIGDIR=str(tmp_path / "tmp"),
        LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii", TERM="dumb",
    )  # fmt: skip
    printed, errors = (text.decode("ascii") for text in process.communicate(timeout=300))
    assert process.returncode == 0, errors
    assert "+- is the standard deviation over seeds" in printed and "Traceback" not in errors
    assert "ResourceWarning" not in errors
    (line,) = (line for line in errors.splitlines() if "SNN_DELAY_PLUGINS_CACHE" in line)
    assert str(tmp_path / "tmp" / "snn_delay_plugins-") in line and "no home folder" in line
    assert (tmp_path / "out" / "deckers_table1_accuracy.png").exists()
    assert "±" in (tmp_path / "out" / "deckers_table1.md").read_text(encoding="utf-8")


def test_two_commands_in_one_folder_at_once_all_succeed(tmp_path):
    folders = {"SNN_DELAY_PLUGINS_CACHE": str(tmp_path / "cache")}
    processes = [python(*COMMAND, "--out", str(tmp_path / "out"), **folders) for _ in range(2)]
    texts = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], texts
    assert len(list((tmp_path / "out").glob("runs/*/result.json"))) == 2


HEAVY = "torch", "numba", "matplotlib", "numpy", "h5py", "lightning", "rich"


def test_the_list_and_the_help_import_nothing_and_need_no_place(tmp_path):
    code = (
        "import os, sys; from recipes.__main__ import main\n"
        "def refuse(event, given):\n"
        "    if event == 'open' and (given[2] or 0) & (os.O_WRONLY | os.O_RDWR): raise OSError(given)\n"
        "sys.addaudithook(refuse); main(['--list'])\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    process = python("-B", "-c", code, HOME=None, SNN_DELAY_PLUGINS_CACHE=None)
    printed, errors = (text.decode() for text in process.communicate(timeout=120))
    assert process.returncode == 0 and errors == "", errors
    assert "deckers_table1 " in printed and printed.endswith("[]\n")


def test_without_fcntl_a_lock_is_held_by_one_and_let_go_by_a_killed_process(tmp_path):
    code = (
        "import os, signal, sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path; from recipes.engine.files import atomic\n"
        "folder = Path(sys.argv[1]); (folder / '.lock').touch()\n"  # of a system that has it
        "def free():\n"
        "    try:\n"
        "        with atomic.claimed(folder): return True\n"
        "    except atomic.Held: return False\n"
        "with atomic.claimed(folder): print(free())\n"
        "print(free())\n"
        "with atomic.locked(folder / 'entry'): print('locked')\n"
        "if os.fork() == 0:\n"
        "    with atomic.claimed(folder): os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.wait(); print(free() or free())"
    )
    process = python("-W", "ignore", "-c", code, str(tmp_path))
    printed, errors = (text.decode() for text in process.communicate(timeout=120))
    assert printed.split() == ["False", "True", "locked", "True"], errors


@pytest.mark.skipif(sys.platform != "linux", reason="the places of other systems are platformdirs'")
def test_the_cache_lies_where_the_system_keeps_caches_and_can_be_written(monkeypatch, tmp_path):
    monkeypatch.delenv("SNN_DELAY_PLUGINS_CACHE")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "file").touch()
    places_of = {
        ("home", "elsewhere"): tmp_path / "elsewhere" / "snn_delay_plugins",
        ("home", None): tmp_path / "home" / ".cache" / "snn_delay_plugins",
        ("file", "elsewhere"): tmp_path / "elsewhere" / "snn_delay_plugins",
        ("file", "file"): tmp_path / "temporary" / f"snn_delay_plugins-{os.getuid()}",
        ("file", None): tmp_path / "temporary" / f"snn_delay_plugins-{os.getuid()}",
    }
    (tmp_path / "home").mkdir()
    for (home, caches), expected in places_of.items():
        monkeypatch.setenv("HOME", str(tmp_path / home))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / caches)) if caches else monkeypatch.delenv("XDG_CACHE_HOME")
        assert places.cache() == expected and not expected.exists()

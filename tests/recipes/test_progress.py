"""What a user sees of runs that take long."""

import io
import re

import pytest
from rich.console import Console

from recipes.engine.command import progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def bar_on(console: Console, clock: Clock) -> progress.Bar:
    bar = progress.Bar("deckers_table1", 21, 1, clock)
    bar._bar.live.console = console
    bar._bar.get_time = clock
    for task in bar._bar.tasks:
        task._get_time = clock
    bar._bar.start_task(bar._task)
    bar._bar.tasks[0].start_time = 0.0
    return bar


def test_at_80_columns_the_time_left_is_there_after_the_first_batch(clock):
    console = Console(width=80, force_terminal=True, file=io.StringIO())
    bar = bar_on(console, clock)
    clock.now = 1.5
    bar.update(1.01, "adlif-plus-uniform-delays-shifts seed 12 epoch 100 (valid 100.0 %)")
    with console.capture() as shown:
        console.print(bar._bar.get_renderable())
    line = re.sub(r"\x1b\[[0-9;]*m", "", shown.get()).rstrip("\n")
    assert len(line) <= 80 and "\n" not in line
    assert "1.01/21 runs" in line and "49:58 left" in line  # 19.99 runs at 0.01 in 1.5 s
    assert line.startswith("adlif-plus-uniform-delays")


def test_a_file_gets_a_line_a_minute(clock):
    file = io.StringIO()
    bar = bar_on(Console(width=80, file=file), clock)
    for second in range(1, 181):
        clock.now = float(second)
        bar.update(1 + second / 100, "lif seed 0 epoch 1")
    assert file.getvalue().splitlines() == [
        "lif seed 0 epoch 1: 1.60/21 runs, 32:20 left",
        "lif seed 0 epoch 1: 2.20/21 runs, 31:20 left",
        "lif seed 0 epoch 1: 2.80/21 runs, 30:20 left",
    ]


def test_a_terminal_gets_no_lines(clock):
    file = io.StringIO()
    bar = bar_on(Console(width=80, force_terminal=True, file=file), clock)
    clock.now = 100.0
    bar.update(2.0, "lif seed 0 epoch 1")
    assert "left" not in file.getvalue()

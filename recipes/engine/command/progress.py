"""How far the runs are: a bar with the time left on a terminal, a line a minute in a file."""

import time
from collections.abc import Callable

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from ..results import tables

PERIOD = 60.0  # seconds between two lines


class TimeLeft(ProgressColumn):
    """By the mean speed since the start, so that it is known after the first batch."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        return Text(f"{time_left(task) or '...'} left", style="progress.remaining")


def time_left(task: Task) -> str:
    """In hours, minutes and seconds; empty before anything is known."""
    done, elapsed = task.completed - task.fields["before"], task.elapsed
    if task.total is None or not elapsed or done <= 0:
        return ""
    minutes, seconds = divmod(round((task.total - task.completed) * elapsed / done), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Bar:
    """Around the training of ``total`` runs, of which ``done`` are there already."""

    def __init__(self, name: str, total: int, done: int, clock: Callable[[], float] = time.monotonic):
        share = TextColumn(f"{{task.completed:.2f}}/{tables.counted(total, 'run')}", table_column=Column(no_wrap=True))
        # what is said of the run gives way first where columns are few
        what = TextColumn(
            "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        )
        self._bar = Progress(what, BarColumn(bar_width=10), share, TimeLeft(table_column=Column(no_wrap=True)), expand=True)
        self._task = self._bar.add_task(name, total=total, completed=done, before=done)
        self._clock, self._said = clock, clock()

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    @property
    def completed(self) -> float:
        return self._bar.tasks[self._task].completed

    def update(self, completed: float, what: str | None = None) -> None:
        """``completed``: runs, the share of the one under way included."""
        self._bar.update(self._task, completed=completed, **({} if what is None else {"description": what}))
        if what is not None and not self._bar.console.is_terminal and self._clock() - self._said >= PERIOD:
            self._said = self._clock()
            task = self._bar.tasks[self._task]
            self.say(
                f"{what}: {completed:.2f}/{tables.counted(int(task.total or 0), 'run')}, {time_left(task) or '?'} left"
            )

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._bar.console.print(line, highlight=False, soft_wrap=True, markup=False)

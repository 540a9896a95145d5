"""Signals that end a command. A training is kept after every whole epoch: the same command goes on from there."""

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name))


class Stopped(BaseException):
    """The command is to end; not an Exception, so that nothing takes it for an error of its own."""

    def __init__(self, number: int):
        super().__init__(number)
        self.code = 128 + number


@contextlib.contextmanager
def by_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM, SIGHUP and SIGQUIT inside the block raise :class:`Stopped`, also where something else went wrong
    because of them; those that are ignored (``nohup``) stay so. Only the main thread can be told of signals."""
    received, before = [], {}

    def stop(number: int, frame: object) -> None:
        received.append(number)
        raise Stopped(number)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: handler for number, handler in before.items() if handler is signal.SIG_DFL}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    except KeyboardInterrupt as error:
        raise Stopped(signal.SIGINT) from error
    except BaseException as error:
        if received and not isinstance(error, Stopped):  # a terminal that is gone cannot be written to
            raise Stopped(received[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise Stopped(received[0])


def leave_to_parent() -> None:
    """In a process that another one has started, and that ends with it: what a terminal sends to both is for that one."""
    for number in (signal.SIGINT, *SIGNALS):
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)

"""Lightning as a library: without its notes, and without its way of ending a program."""

import contextlib
import logging
import signal
import warnings


@contextlib.contextmanager
def interruptible():
    """Ctrl-C as a KeyboardInterrupt: Lightning turns it into sys.exit(1) and leaves the process deaf to the
    next one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error


class quiet(warnings.catch_warnings):
    """Lightning's notes on devices, workers and checkpoints are for its own scripts; errors still come
    through."""

    def __enter__(self):
        super().__enter__()
        self._levels = {name: logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")}
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\..*")

    def __exit__(self, *error):
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        super().__exit__(*error)

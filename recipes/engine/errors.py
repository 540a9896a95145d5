"""What goes wrong for a reason that a user can mend."""

import errno
import os

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: a limit on the size of files
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class DataError(ValueError):
    """A recording that cannot be used. The message names the file and, where there is one, the sample."""


class RunError(DataError):
    """A run whose files cannot be used. The message names the file, and what to do for the run to be trained."""


class Diverged(RuntimeError):
    """A training whose loss is not a number any more. The message says where."""


class OptionError(ValueError):
    """An option that cannot be meant; the message is one line that says what to do."""


def disk_is_full(error: OSError) -> bool:
    """Whether there is no space left: whatever is written next will fail, too."""
    return error.errno in _FULL


def reason(error: OSError) -> str:
    """One line: which file, what is wrong with it, and what can be done."""
    what = os.strerror(error.errno).lower() if error.errno else one_line(error)
    if disk_is_full(error):
        what += "; free some space and give the same command again: nothing is written half"
    elif error.errno in _FORBIDDEN:
        what += (
            "; choose a folder that can be written with --out (results), SNN_DELAY_PLUGINS_CACHE (cache) or "
            "SNN_DELAY_PLUGINS_DATA (downloads)"
        )
    return what if error.filename is None else f"{error.filename}: {what}"


def one_line(error: BaseException, longest: int = 200) -> str:
    """What an error says, without line breaks, and not more than fits on a few lines of a screen."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[: longest - 3]}..."

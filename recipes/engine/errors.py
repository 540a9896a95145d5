"""What goes wrong for a reason that a user can mend."""


class DataError(ValueError):
    """A recording that cannot be used. The message names the file and, where there is one, the sample."""


class Diverged(RuntimeError):
    """A training whose loss is not a number any more. The message says where."""

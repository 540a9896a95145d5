"""What a screen or a file cannot show."""

import codecs
import sys

_SPELLED = {"±": "+-", "…": "...", "é": "e", "ü": "u", "ö": "o", "ä": "a"}


def write_what_it_can() -> None:
    """Characters that the encoding of the output does not have are spelled in others, or become question marks: a table
    must not be lost for one of them."""
    codecs.register_error("spelled", _spell)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and stream.errors == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="spelled")


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SPELLED.get(character, "?") for character in error.object[error.start : error.end]), error.end

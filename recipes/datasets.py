"""Every data set that there is a source for: what ``download`` can fetch, and what the tests of all sources run over. A new
one is a file with its :class:`~recipes.engine.data.sources.Source`, and its line here."""

from .engine.data.augmented_counts import AugmentedCounts
from .engine.data.binned import BinnedCounts, Binning
from .engine.data.events import Sampling, ShdEvents
from .engine.data.heidelberg import SHD, SSC
from .engine.data.sources import Source
from .engine.data.speech_commands import SpeechCommands
from .engine.files.downloads import Published
from .eventprop.braille import Braille
from .eventprop.yin_yang import Encoding, YinYang

SOURCES: dict[str, Source] = {
    "SHD": BinnedCounts(Binning(), SHD),
    "SHD, augmented": AugmentedCounts(Binning(), {"channel_shift": 50.0, "blend": 0.5}, SHD),
    "SHD as events": ShdEvents(Sampling(), {"none": None}, "none"),
    "SSC": BinnedCounts(Binning(), SSC, "valid_accuracy"),
    "GSC": SpeechCommands(),
    "Braille": Braille(),
    "Yin-Yang": YinYang(Encoding()),
}


def published() -> dict[str, Published]:
    """What can be downloaded, by name."""
    found: dict[str, Published] = {}
    for source in SOURCES.values():
        if source.published is not None:
            found.setdefault(source.published.name, source.published)
    return found

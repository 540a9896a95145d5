"""The recommended network for spoken commands in SHD's format, in three sizes."""

import dataclasses

from . import flagship_shd
from .engine.data.heidelberg import SSC

RECIPE = dataclasses.replace(
    flagship_shd.RECIPE,
    name="flagship_ssc",
    title="The recommended network on spoken commands in SHD's format",
    training=dataclasses.replace(flagship_shd.RECIPE.training, epochs=40, batch_size=64),  # nine times as many clips as SHD
    source_of_data=dataclasses.replace(flagship_shd.RECIPE.source_of_data, published=SSC, paper_criterion="valid_accuracy"),
    seeds=3,
)

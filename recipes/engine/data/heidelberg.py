"""The Spiking Heidelberg Digits and the Spiking Speech Commands as Cramer et al. (2020) publish them."""

import functools

from ..files import downloads


def _remote(name: str, md5: str) -> downloads.RemoteFile:
    urls = tuple(f"https://{host}/datasets/{name}" for host in ("zenkelab.org", "compneuro.net"))
    if not name.endswith(".zip"):
        return downloads.RemoteFile(name, urls, f"md5:{md5}")
    plain = name.removesuffix(".zip")
    return downloads.RemoteFile(
        name, urls, f"md5:{md5}", makes=(plain,), unpack=functools.partial(downloads.unpack_file, plain)
    )


SHD = downloads.Published(
    "SHD",
    "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/",
    "CC BY 4.0",
    (
        _remote("shd_train.h5.gz", "d47c9825dee33347913e8ce0f2be08b0"),
        _remote("shd_test.h5.gz", "3062a80ec0c5719404d5b02e166543b1"),
    ),
)
SSC = downloads.Published(
    "SSC",
    "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/",
    "CC BY 4.0",
    (
        _remote("ssc_train.h5.zip", "d102be95e7144fcc0553d1f45ba94170"),
        _remote("ssc_valid.h5.zip", "b4eee3516a4a90dd0c71a6ac23a8ae43"),
        _remote("ssc_test.h5.zip", "a35ff1e9cffdd02a20eb850c17c37748"),
    ),
)

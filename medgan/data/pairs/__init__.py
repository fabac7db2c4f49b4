"""Pairings by the name of their task: what is given and what is wanted."""

from collections.abc import Callable

from medgan.core.config import Preprocessing
from medgan.core.conversion import Conversion
from medgan.core.errors import ConfigError
from medgan.data.pairs.harmonisation import Harmonisation
from medgan.data.pairs.lesions import Lesions
from medgan.data.pairs.mask_to_image import MaskToImage
from medgan.data.pairs.pair import Pairing
from medgan.data.pairs.super_resolution import SuperResolution
from medgan.data.pairs.translation import Translation

PAIRINGS: dict[str, Callable[[Preprocessing, Conversion], Pairing]] = {
    "mask_to_image": MaskToImage.of,
    "translation": Translation.of,
    "super_resolution": SuperResolution.of,
    "lesions": Lesions.of,
    "harmonisation": Harmonisation.of,
}


def pairing_of(preprocessing: Preprocessing, conversion: Conversion) -> Pairing:
    """The pairing of a model.

    Raises:
        ConfigError: E_CHANNEL when scans do not have the channels.
    """
    wanted = {*conversion.source, *conversion.target}
    if missing := sorted(wanted - set(preprocessing.channels)):
        raise ConfigError(
            "E_CHANNEL", ", ".join(missing),
            f"no channel of the scans, which have {', '.join(preprocessing.channels)}",
            "name the channels of data.channels in translate.source and translate.target",
        )  # fmt: skip
    return PAIRINGS[conversion.task](preprocessing, conversion)

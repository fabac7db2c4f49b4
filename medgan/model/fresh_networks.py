"""Fresh networks for a model: of a configuration, or to be filled from a folder."""

from dataclasses import replace

from medgan.anomaly.context import input_channels
from medgan.core.config import ModelConfig, Preprocessing
from medgan.core.conversion import Conversion
from medgan.data.conditions import width
from medgan.data.pairs import pairing_of
from medgan.networks.blocks import Stages
from medgan.networks.discriminator import Discriminator
from medgan.networks.gan import Networks
from medgan.networks.localiser import Localiser
from medgan.networks.restorer import MEAN, Restorer
from medgan.networks.translator import Translator

SYMMETRIC = 0.95
"""Correlation of a template with its mirror image from which left and right count as alike: whole
brains have 0.997."""


def fresh_localiser(
    preprocessing: Preprocessing, sizes: ModelConfig, inputs: tuple[str, ...]
) -> Localiser:
    """A localiser for a model of these sizes, weights drawn from torch's global generator.

    Args:
        preprocessing: of the model.
        sizes: of the model.
        inputs: its inputs besides the volume.
    """
    in_channels = input_channels(inputs, len(preprocessing.channels))
    template = preprocessing.template
    mirrored = template is not None and template.symmetry >= SYMMETRIC
    return Localiser(inputs, stages(preprocessing, sizes), in_channels, mirrored)


def restorer_inputs(preprocessing: Preprocessing) -> tuple[str, ...]:
    """What a new restorer sees beside the scan: how unusual each voxel is.

    Where scans are aligned also the mean healthy scan, from which it starts to draw, and the signed
    deviation from it. Without density, the average precision of what changed after 120 s of
    training was 0.05 in place of 0.16.
    """
    return ("density",) if preprocessing.align == "none" else ("density", "deviation", MEAN)


def fresh_restorer(
    preprocessing: Preprocessing, sizes: ModelConfig, inputs: tuple[str, ...]
) -> Restorer:
    """A restorer for a model, as `fresh_localiser`."""
    count = len(preprocessing.channels)
    return Restorer(inputs, count, input_channels(inputs, count), stages(preprocessing, sizes))


def restoring_networks(preprocessing: Preprocessing, sizes: ModelConfig) -> Networks:
    """Restorer and discriminator of these sizes, weights drawn from torch's global generator."""
    return Networks(
        restorer=fresh_restorer(preprocessing, sizes, restorer_inputs(preprocessing)),
        discriminator=Discriminator(
            preprocessing.shape, len(preprocessing.channels), stages(preprocessing, sizes),
            width(preprocessing.conditions),
        ),
    )  # fmt: skip


def translating_networks(
    preprocessing: Preprocessing, sizes: ModelConfig, conversion: Conversion
) -> Networks:
    """Translator and a discriminator, of sources beside targets or of targets alone."""
    pairing = pairing_of(preprocessing, conversion)
    # Views of several windows are for the channels of a scan; a source has others.
    used = replace(stages(preprocessing, sizes), windows=())
    given, wanted = pairing.source_channels, pairing.target_channels
    judged = given + wanted if conversion.paired else wanted
    return Networks(
        translator=Translator(conversion, given, wanted, used, pairing.residual),
        discriminator=Discriminator(preprocessing.shape, judged, used),
    )


def synthesis_networks(
    preprocessing: Preprocessing, sizes: ModelConfig, labels: int, condition: int
) -> Networks:
    """Generator, encoder and discriminator, weights drawn from torch's global generator.

    Args:
        preprocessing: of the model.
        sizes: of the model.
        labels: label channels.
        condition: length of an encoded condition.
    """
    return Networks.build(
        preprocessing.shape, labels, sizes.latent, stages(preprocessing, sizes), condition,
        len(preprocessing.channels),
    )  # fmt: skip


def stages(preprocessing: Preprocessing, sizes: ModelConfig) -> Stages:
    """The sizes of all networks of a model."""
    return Stages(**sizes.model_dump(exclude={"latent"}), windows=preprocessing.views)

"""Statistics of a set of volumes, one row per volume, so that subsets can be compared."""

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from medgan.evaluation.sets.fidelity import histograms, label_volumes, power_spectra, tissue_volumes
from medgan.evaluation.sets.similarity import pair_similarities


@dataclass(frozen=True)
class Description:
    """A set of N volumes.

    Attributes:
        features: (N, F), of an extractor.
        histograms: (N, B).
        spectra: (N, R), dB.
        sizes: (N, L), mm^3 of each structure of `structures`.
        similarities: (N, N), NaN for pairs that were not compared.
        classes: (N, C), a classifier's probabilities, NaN for volumes of unknown class;
            None where there is no classifier.
        structures: names of the columns of `sizes`.
    """

    features: Tensor
    histograms: Tensor
    spectra: Tensor
    sizes: Tensor
    similarities: Tensor
    structures: tuple[str, ...]
    classes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def part(self, rows: Int[Tensor, " K"]) -> "Description":
        """Some of the volumes."""
        return replace(
            self,
            features=self.features[rows],
            histograms=self.histograms[rows],
            spectra=self.spectra[rows],
            sizes=self.sizes[rows],
            similarities=self.similarities[rows][:, rows],
            classes=None if self.classes is None else self.classes[rows],
        )


def describe(
    volumes: Float[Tensor, "N 1 X Y Z"],
    features: Float[Tensor, "N F"],
    spacing: tuple[float, float, float],
    labels: tuple[int, ...] = (),
    label_maps: Int[Tensor, "N X Y Z"] | None = None,
    pairs: int = 300,
    seed: int = 0,
) -> Description:
    """Statistics of a set of volumes.

    Args:
        volumes: shape (N, 1, X, Y, Z), intensities in [-1, 1].
        features: of an extractor, in the same order.
        spacing: mm along the three axes.
        labels: values whose volumes are measured.
        label_maps: shape (N, X, Y, Z); without them three tissue classes are measured.
        pairs: of volumes whose similarity is measured.
        seed: of the pairs.
    """
    voxel = spacing[0] * spacing[1] * spacing[2]
    if labels and label_maps is not None:
        sizes = label_volumes(label_maps, labels, voxel)
        structures = tuple(f"label {value}" for value in labels)
    else:
        sizes = tissue_volumes(volumes, voxel)
        structures = ("dark tissue", "middle tissue", "bright tissue")
    return Description(
        features,
        histograms(volumes),
        power_spectra(volumes, spacing),
        sizes,
        pair_similarities(volumes, pairs, seed),
        structures,
    )

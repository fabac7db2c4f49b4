"""The model: what is stored, loaded, and behind every verb."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.calibration import Calibration, ScoringConfig
from medgan.anomaly.context import SHARED, Densities, ScoringNetworks
from medgan.anomaly.scorers import chosen
from medgan.core.config import ModelConfig, Preprocessing
from medgan.core.errors import ModelError
from medgan.core.tables import html_facts
from medgan.core.volume import Volume
from medgan.data.conditions import Value
from medgan.data.labels import SMALLEST_COMPONENT
from medgan.data.prepare import Preparation, PreparedScan
from medgan.data.sentence import covariates_of_sentence
from medgan.model import anomaly, generation, inversion, mask_to_image, translation
from medgan.model.card import model_facts
from medgan.model.folder import Stored, read_model, write_model
from medgan.model.hull import Hull
from medgan.model.inversion import STEPS
from medgan.model.outputs import Edit, Inversion, Latent, ScanScore, Synthetic, Translation
from medgan.model.scans import Scan, prepare
from medgan.networks.gan import Networks


@dataclass
class Model:
    """The networks with all they need to be used.

    Verbs that take a scan raise DataError when `medgan check` would refuse it, and E_CHANNEL when
    it has other image channels. Several channels are a mapping from their names to files or
    volumes. Conditions that the model does not know are a
    ConfigError, E_CONDITION.

    Attributes:
        networks: in evaluation, on `device`.
        preprocessing: from a scan to the networks' input.
        sizes: of the networks.
        facts: where the model comes from: data digest, volumes seen, versions. No paths.
        calibration: of the scores; None until `calibrate`.
        label_offset: with which generated label channels become label maps.
        densities: of features of the training scans; empty until `learn_densities`.
        hull: where latents of training scans lie; None for a model that does not know.
        digest: SHA-256 of the file of weights that it was read from; empty without one.
    """

    networks: Networks
    preprocessing: Preprocessing
    sizes: ModelConfig
    facts: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    label_offset: float = 0.0
    densities: Densities = field(default_factory=dict)
    hull: Hull | None = None
    digest: str = ""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self.networks.requires_grad(False)
        self.networks.to(self.device)
        self.densities = {n: density.to(self.device) for n, density in self.densities.items()}

    def _repr_html_(self) -> str:
        """For notebooks: grid, labels and conditions, and the calibration scans."""
        scans = len(self.calibration.scores) if self.calibration else 0
        facts = model_facts(self.preprocessing, scans, self.facts) | {"device": self.device}
        return html_facts(facts, "medgan model")

    @cached_property
    def _preparation(self) -> Preparation:
        return Preparation(translation.source_preprocessing(self.preprocessing, self.source))

    @property
    def source(self) -> tuple[str, ...]:
        """Channels of which the model makes another image; empty for a model that does not."""
        translator = self.networks.translator
        return () if translator is None else translator.conversion.source

    @property
    def needed_calibration(self) -> Calibration:
        """The calibration; without one a ModelError, E_UNCALIBRATED."""
        if self.calibration is None:
            raise ModelError(
                "E_UNCALIBRATED", "the model", "has no calibration",
                "run medgan calibrate MODEL HEALTHY",
            )  # fmt: skip
        return self.calibration

    def prepare(self, scan: Scan, case: str = "the scan") -> PreparedScan:
        """The scan, read and checked, on the model's grid; errors and notes name it `case`."""
        return prepare(self._preparation, scan, case)

    def generate(
        self, count: int, seed: int = 0, first: int = 0,
        smallest_component: float = SMALLEST_COMPONENT,
        conditions: Mapping[str, Value] | None = None, truncation: float = 0.0, text: str = "",
    ) -> list[Synthetic]:  # fmt: skip
        """Synthetic scans, with label maps where the model learned labels.

        Scan number i depends on seed, i, conditions and truncation alone.

        Args:
            count: how many.
            seed: of the latents, and of conditions that are not given.
            first: number of the first one.
            smallest_component: components of a label smaller than this share of its largest one
                are removed; 0 keeps them.
            conditions: such as `{"age": 70, "sex": "F"}`; `unknown` leaves one open. Conditions
                that are not given are drawn with the frequencies of the training scans.
            truncation: latent coordinates beyond this are drawn again; 0 is off.
            text: further conditions, in words; a word not understood is a ConfigError, E_TEXT.
        """
        given = (smallest_component, conditions, truncation, text)
        return list(self.iter_generate(count, seed, first, *given))

    def iter_generate(
        self, count: int, seed: int = 0, first: int = 0,
        smallest_component: float = SMALLEST_COMPONENT,
        conditions: Mapping[str, Value] | None = None, truncation: float = 0.0, text: str = "",
    ) -> Iterator[Synthetic]:  # fmt: skip
        """As `generate`, one by one, for more scans than fit into memory."""
        numbers = range(first, first + count)
        wanted = covariates_of_sentence(text, self.preprocessing.conditions, conditions)
        return generation.iter_generate(self, numbers, seed, smallest_component, wanted, truncation)

    def channels(self, latent: Latent) -> Tensor:
        """Image and soft label channels of a latent, (C, X, Y, Z) in [-1, 1], on the CPU."""
        return generation.generate_channels(self, latent)[0]

    def draw(
        self, seed: int, number: int = 0, conditions: Mapping[str, Value] | None = None,
        truncation: float = 0.0,
    ) -> Latent:  # fmt: skip
        """The random latent of scan `number` of a seed; arguments as in `generate`."""
        return generation.draw_latent(self, seed, number, conditions, truncation)

    def interpolate(
        self, a: Latent | Scan, b: Latent | Scan, count: int,
        smallest_component: float = SMALLEST_COMPONENT, steps: int = STEPS,
    ) -> list[Synthetic]:  # fmt: skip
        """Synthetic scans on the way from a to b, both included.

        Ends may be scans, inverted in `steps` steps. Fewer than two are a ConfigError, E_VALUE.
        """
        start, end = (x if isinstance(x, Latent) else self.invert(x, steps).latent for x in (a, b))
        return generation.interpolate(self, start, end, count, smallest_component)

    def encode(self, scan: Scan) -> np.ndarray:
        """The encoder's latent (L,) of a scan."""
        return inversion.encode(self, self.prepare(scan)).numpy()

    def reconstruct(self, scan: Scan) -> Volume:
        """The first channel generated from a scan's latent, in its own grid and intensities."""
        return inversion.reconstruct(self, self.prepare(scan))[0]

    def reconstruct_channels(self, scan: Scan) -> dict[str, Volume]:
        """As `reconstruct`, every channel by its name."""
        volumes = inversion.reconstruct(self, self.prepare(scan))
        return dict(zip(self.preprocessing.channels, volumes, strict=True))

    def restore(self, scan: Scan) -> list[Volume]:
        """The healthy counterpart of a scan, channel by channel, in its own grid and intensities.

        A model that was not trained for restoration is a ModelError, E_RESTORER.
        """
        return anomaly.restore(self, self.prepare(scan))

    def translate(
        self, scan: Scan, answers: int = 8, seed: int = 0, thickness_mm: float = 0.0
    ) -> Translation:
        """Another image of a scan's `source` channels, in its own grid and in real units.

        The image is the answer without noise; the spread of others says how sure it is. Slices of
        super-resolution touch unless `thickness_mm` is given. E_TRANSLATOR: not trained for it.
        """
        return translation.translate(self, self.prepare(scan), answers, seed, thickness_mm)

    def image_of(
        self, label_map: Volume, rough_mm: float = 0.0, answers: int = 8, seed: int = 0,
        case: str = "the label map",
    ) -> Translation:  # fmt: skip
        """A scan of a label map, as `translate`; its outline may be off by `rough_mm`."""
        return mask_to_image.image_of(self, label_map, rough_mm, answers, seed, case)

    def invert(
        self, scan: Scan, steps: int = STEPS, covariates: Mapping[str, Value] | None = None
    ) -> Inversion:
        """Finds the latent that reproduces a scan best (GAN inversion), from the encoder's latent.

        The networks stay as they are, and the error is never larger than that of the encoder.

        Args:
            scan: to reproduce.
            steps: 0 keeps the encoder's latent.
            covariates: by the names of the model's conditions.
        """
        generation.warn_of_unusual(self, covariates or {})
        return inversion.invert(self, self.prepare(scan), steps, covariates or {})

    def edit(
        self, scan: Scan, changes: Mapping[str, Value],
        covariates: Mapping[str, Value] | None = None, steps: int = STEPS,
    ) -> Edit:  # fmt: skip
        """The same scan with other covariates, such as the same brain, older.

        The scan is inverted and generated twice, with its own covariates and with the changed
        ones; the difference is added to it. Several image channels are a ConfigError, E_CHANNEL.

        Args:
            scan: to edit.
            changes: such as `{"age": 80}`.
            covariates: of the scan, such as `{"age": 55, "sex": "F"}`.
            steps: of the inversion.
        """
        return inversion.edit(self, self.prepare(scan), changes, covariates or {}, steps)

    def score(
        self, scan: Scan, label_map: Volume | None = None, smallest_mm3: float = 0.0,
        covariates: Mapping[str, Value] | None = None,
    ) -> ScanScore:  # fmt: skip
        """Anomaly score, map and, of a comparable scan, p-value of a scan among healthy ones.

        Args:
            scan: to score.
            label_map: of its anatomy, on the same grid; regions are named by it.
            smallest_mm3: smaller regions are left out.
            covariates: of the scan, such as `{"age": 80}`, for which scores may be adjusted.

        Raises:
            ModelError: E_UNCALIBRATED.
            DataError, ConfigError: E_LABEL_GRID; E_CONDITION for a value that is no number.
        """
        known = covariates or {}
        return anomaly.score(self, self.prepare(scan), label_map, smallest_mm3, known)

    def calibrate(
        self, scans: Iterable[Scan], config: ScoringConfig | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None, count: int = 0,
        covariates: Iterable[Mapping[str, Value]] = (), choose: anomaly.Choose | None = None,
    ) -> None:  # fmt: skip
        """Scores healthy scans that were not trained on; sets `calibration`.

        Args:
            scans: at least five.
            config: scorers, and how they are combined; without scorers, those of the model's
                calibration, or the best of the model.
            progress: called with the numbers of scans done and of all.
            count: of all scans, for `progress`, where `scans` come one by one.
            covariates: of each scan, for `config.covariates`; read after the last scan.
            choose: picks the scorers of a model without calibration, where `config` has none.

        Raises:
            ConfigError, DataError: E_SCORER; E_CONDITION; E_CALIBRATION with too few scans.
        """
        config = config or ScoringConfig(())
        given = (scans, config, progress, count, covariates, choose)
        self.calibration = anomaly.calibration_of(self, *given)

    def learn_densities(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        """Sets `densities` from batches of training scans; drops a calibration without them."""
        self.densities = anomaly.densities_of(self, batches)
        self.calibration = None

    def scoring_networks(self) -> ScoringNetworks:
        """The functions and densities that scorers use."""
        return anomaly.scoring_networks(self)

    def save(self, folder: str | Path, half: bool = False) -> None:
        """Writes the model folder, in half precision if `half`; an older model is replaced."""
        stored = Stored(
            self.networks, self.preprocessing, self.sizes, self.facts, self.calibration,
            self.label_offset, self.densities, self.hull,
        )  # fmt: skip
        write_model(Path(folder), stored, half)

    def share(self, folder: str | Path) -> None:
        """Writes the model for others: in half precision and without the discriminator.

        The discriminator leaks most about its training scans; the hull leaks, too. All verbs work
        without them. A calibration with its features is a ConfigError, E_SCORER.
        """
        networks = self.networks.without_discriminator()
        densities = {name: self.densities[name] for name in SHARED if name in self.densities}
        model = replace(self, networks=networks, densities=densities, hull=None)
        if self.calibration is not None:
            chosen(model.scoring_networks(), self.calibration.scoring_config.scorers)
        model.save(folder, half=True)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "Model":
        """Reads a model folder; ModelError E_MODEL when a file differs from its hash."""
        return cls(**vars(read_model(Path(folder))), device=torch.device(device))

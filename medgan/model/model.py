"""The model: what is shipped, loaded, and behind every verb."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan.anomaly.calibration import Calibration, Mask, ScoringConfig, calibrate
from medgan.anomaly.comparability import REASONS, ScanStatistics, reference_statistics
from medgan.anomaly.regions import find_regions
from medgan.anomaly.scorers import (
    SHARED,
    Densities,
    ScoringContext,
    ScoringNetworks,
    chosen,
    foreground_mask,
    learn_densities,
    make_maps,
)
from medgan.core.config import ModelConfig, Preprocessing
from medgan.core.errors import ConfigError, DataError, ModelError
from medgan.core.tables import html_facts
from medgan.core.volume import Volume
from medgan.data.checks import CheckedScan, check_image, check_volume, same_grid
from medgan.data.conditions import Value, between, check, draw, encode, understood
from medgan.data.labels import SMALLEST_COMPONENT, decode_labels, largest_components
from medgan.data.prepare import Preparation, PreparedScan, synthetic_scale
from medgan.model.folder import Stored, read_model, write_model
from medgan.model.outputs import Edit, Latent, Projection, ScanScore, Synthetic
from medgan.networks.gan import Networks
from medgan.networks.latent import Fit, fit, slerp, truncate

log = logging.getLogger(__name__)
Scan = str | Path | Volume | CheckedScan | PreparedScan
"""What a verb takes: a NIfTI file, a volume in the scanner's intensities, or a prepared scan."""
STEPS = 100
"""Steps of a projection."""
TILE = 128
"""Edge of the cubes in which the full resolution of large volumes is generated."""


@dataclass
class Model:
    """Generator, encoder and discriminator with all they need to be used.

    Attributes:
        networks: in evaluation, on `device`.
        preprocessing: what a scan goes through first.
        sizes: of the networks.
        facts: where the model comes from: data digest, volumes seen, versions. No paths.
        calibration: of the scores; None until `calibrate`.
        label_offset: with which generated label channels become label maps.
        densities: what is usual in the training scans; empty until `learn_densities`.
    """

    networks: Networks
    preprocessing: Preprocessing
    sizes: ModelConfig
    facts: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    label_offset: float = 0.0
    densities: Densities = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self.networks.requires_grad(False)
        self.networks.to(self.device)
        self.densities = {n: density.to(self.device) for n, density in self.densities.items()}

    def _repr_html_(self) -> str:
        """For notebooks: what the model learned, and what its scores are calibrated on."""
        grid, known = self.preprocessing, self.calibration
        shape = " x ".join(map(str, grid.shape))
        return html_facts(
            {
                "grid": f"{shape} voxels of {' x '.join(f'{s:g}' for s in grid.spacing)} mm",
                "intensities": _intensities(grid),
                "labels": ", ".join(map(str, grid.labels)),
                "conditions": ", ".join(condition.name for condition in grid.conditions),
                "calibrated": f"on {len(known.scores)} healthy scans" if known else "not yet",
                "device": self.device,
                **{name.replace("_", " "): value for name, value in self.facts.items()},
            },
            "medgan model",
        )

    @cached_property
    def _preparation(self) -> Preparation:
        return Preparation(self.preprocessing)

    def generate(
        self,
        count: int,
        seed: int = 0,
        first: int = 0,
        smallest_component: float = SMALLEST_COMPONENT,
        conditions: Mapping[str, Value] | None = None,
        truncation: float = 0.0,
    ) -> list[Synthetic]:
        """Synthetic scans, with label maps where the model learned labels.

        Scan number i is a function of the seed, i, conditions and truncation alone: it does not
        depend on `count`, on `first` or on what was generated before.

        Args:
            count: how many.
            seed: of the latents, and of conditions that are not given.
            first: number of the first one.
            smallest_component: parts of a label smaller than this share of its largest one are
                specks and are filled with what surrounds them; 0 keeps them.
            conditions: such as `{"age": 70, "sex": "F"}`; `unknown` leaves one open, and what
                is not given is drawn as the training scans had it.
            truncation: latent coordinates beyond this are drawn again from within it; smaller is
                more reference_statistics and less varied, 0 is off.

        Raises:
            ConfigError: E_CONDITION for what the model does not know.
        """
        return list(
            self.iter_generate(count, seed, first, smallest_component, conditions, truncation)
        )

    def iter_generate(
        self,
        count: int,
        seed: int = 0,
        first: int = 0,
        smallest_component: float = SMALLEST_COMPONENT,
        conditions: Mapping[str, Value] | None = None,
        truncation: float = 0.0,
    ) -> Iterator[Synthetic]:
        """As `generate`, one by one, for more scans than fit into memory."""
        self._check(conditions or {})
        for number in range(first, first + count):
            latent = self.draw(seed, number, conditions, truncation)
            drawn = self._generate(latent)
            yield self._synthetic(drawn, seed, number, latent.covariates, smallest_component)

    def draw(
        self,
        seed: int,
        number: int = 0,
        conditions: Mapping[str, Value] | None = None,
        truncation: float = 0.0,
    ) -> Latent:
        """What `generate` draws scan `number` of a seed from.

        Raises:
            ConfigError: E_CONDITION for what the model does not know.
        """
        random = torch.Generator().manual_seed(_state(seed, number))
        values = torch.randn(self.sizes.latent, generator=random)
        if truncation:
            # From a source of its own: the other coordinates stay.
            spare = torch.Generator().manual_seed(_state(seed, number, 2))
            values = truncate(values, truncation, spare)
        rng = np.random.default_rng([seed, number, 1])
        covariates = draw(self.preprocessing.conditions, conditions or {}, rng)
        return Latent(values.numpy(), covariates)

    def project(
        self,
        scan: Scan,
        steps: int = STEPS,
        covariates: Mapping[str, Value] | None = None,
    ) -> Projection:
        """Finds the latent that draws a real scan best, from the encoder's on.

        The networks stay as they are; the error is never larger than the encoder's. On a CPU the
        same scan gives the same bits.

        Args:
            scan: a NIfTI file, or a volume in the scanner's intensities.
            steps: how often the latent is bettered; 0 keeps the encoder's.
            covariates: what is known of the scan, by the names of the model's conditions.

        Raises:
            ConfigError: E_CONDITION for what the model does not know.
            DataError: when the scan is one that `medgan check` refuses.
        """
        self._check(covariates or {})
        return self._project(self.prepare(scan), steps, covariates or {})

    def interpolate(
        self,
        a: Latent | Scan,
        b: Latent | Scan,
        count: int,
        smallest_component: float = SMALLEST_COMPONENT,
        steps: int = STEPS,
    ) -> list[Synthetic]:
        """Synthetic scans on the way from a to b, both included.

        Latents go along an arc in equal angles, conditions along a line; a condition known at one
        end alone fades.

        Args:
            a: a latent, or a scan, which is projected.
            b: likewise.
            count: how many, at least two.
            smallest_component: as in `generate`.
            steps: of the projections.

        Raises:
            ConfigError: E_VALUE for fewer than two.
            DataError: when a scan is one that `medgan check` refuses.
        """
        if count < 2:
            raise ConfigError("E_VALUE", "interpolation", f"{count} frames", "ask for two or more")
        start, end = (x if isinstance(x, Latent) else self.project(x, steps).latent for x in (a, b))
        first, last = torch.from_numpy(start.values), torch.from_numpy(end.values)
        learned = self.preprocessing.conditions
        known = [understood(learned, place.covariates) for place in (start, end)]
        told = [self._encoded(covariates) for covariates in known]
        frames = []
        for number in range(count):
            share = number / (count - 1)
            covariates = between(known[0], known[1], share)
            place = Latent(slerp(first, last, share).numpy(), covariates)
            with torch.inference_mode():
                drawn = self._generate(place, torch.lerp(told[0], told[1], share))
            frames.append(self._synthetic(drawn, None, number, covariates, smallest_component))
        return frames

    def edit(
        self,
        scan: Scan,
        changes: Mapping[str, Value],
        covariates: Mapping[str, Value] | None = None,
        steps: int = STEPS,
    ) -> Edit:
        """The same scan with other covariates, such as the same brain, older.

        The scan is projected with its own covariates and drawn twice, with these and with the
        changed ones. The difference of the two drawings is added to the scan: its noise, its
        finest detail and all else that the generator cannot draw stay as they are, and without a
        change it comes back to the bit.

        Args:
            scan: a NIfTI file, or a volume in the scanner's intensities.
            changes: such as `{"age": 80}`.
            covariates: what is known of the scan, such as `{"age": 55, "sex": "F"}`.
            steps: of the projection.

        Raises:
            ConfigError: E_CONDITION for what the model does not know, or when it has no
                conditions.
            DataError: when the scan is one that `medgan check` refuses.
        """
        learned = self.preprocessing.conditions
        if not learned:
            raise ConfigError(
                "E_CONDITION", "the model", "has no conditions to edit along",
                "train one with data.conditions",
            )  # fmt: skip
        self._check(changes)
        self._check(covariates or {})
        known = understood(learned, covariates or {})
        changed = understood(learned, {**known, **changes})
        for name in changes:
            if known[name] is None and changed[name] is not None:
                log.warning("%s of the scan is unknown: the edit starts from any; give it", name)
        prepared = self.prepare(scan)
        projection = self._project(prepared, steps, known)
        volume, scale = prepared.source[0], prepared.scale[0]
        with torch.inference_mode():
            values = projection.latent.values
            before, after = (
                self._generate(Latent(values, told))[:, :1] for told in (known, changed)
            )
        old, new = (scale.back(drawn[0, 0].numpy()) for drawn in (before, after))
        difference = prepared.back(new - old)
        edited = np.clip(volume.data + difference.data, volume.data.min(), volume.data.max())
        return Edit(
            volume.like(edited),
            difference,
            prepared.in_scanner_units(after[0, 0].numpy()),
            projection,
            changed,
        )

    def iter_channels(
        self,
        count: int,
        seed: int = 0,
        first: int = 0,
        conditions: Mapping[str, Value] | None = None,
    ) -> Iterator[Tensor]:
        """What `generate` is made from, one by one, before any rounding.

        Yields:
            Shape (1 + D, X, Y, Z), on the CPU, in [-1, 1]: the image, then soft label channels.
        """
        for number in range(first, first + count):
            yield self._generate(self.draw(seed, number, conditions))[0]

    def encode(self, scan: Scan) -> np.ndarray:
        """The latent (L,) from which the generator rebuilds a scan.

        Args:
            scan: a NIfTI file, or a volume in the scanner's intensities.
        """
        return self._encode(self.prepare(scan)).numpy()

    def reconstruct(self, scan: Scan) -> Volume:
        """The scan rebuilt from its latent, in its own grid and intensities."""
        prepared = self.prepare(scan)
        return prepared.in_scanner_units(self._reconstruct(prepared)[0, 0].numpy())

    @torch.inference_mode()
    def score(
        self,
        scan: Scan,
        label_map: Volume | None = None,
        smallest_mm3: float = 0.0,
    ) -> ScanScore:
        """How strange a scan is among healthy ones, and where.

        A scan that is not comparable with the calibration scans gets reasons and no p-value.

        Args:
            scan: a NIfTI file, or a volume in the scanner's intensities.
            label_map: of its anatomy, on the same grid; regions are named by it.
            smallest_mm3: smaller regions are left out.

        Raises:
            ModelError: E_UNCALIBRATED.
            DataError: when the scan is one that `medgan check` refuses; E_LABEL_GRID.
        """
        if self.calibration is None:
            raise ModelError(
                "E_UNCALIBRATED", "the model", "has seen no calibration scans",
                "run medgan calibrate MODEL HEALTHY",
            )  # fmt: skip
        prepared, gain = self._rescaled(self.prepare(scan))
        context = ScoringContext(self._batch(prepared), self.scoring_networks())
        scores, score_map, parts = self.calibration.score(
            *_read(context, self.calibration.scoring_config)
        )
        score, reasons = float(scores[0]), ()
        if self.calibration.reference is not None:
            reasons = self.calibration.reference.reasons(_statistics(prepared, context))
        native = prepared.back(score_map[0, 0].numpy())
        if label_map is not None and not same_grid(label_map, native):
            raise DataError(
                "E_LABEL_GRID", "the label map", "and the scan lie on different grids",
                "give one on the scan's grid",
            )  # fmt: skip
        numbers, regions = find_regions(
            native.data, self.calibration.level, prepared.affine, smallest_mm3,
            label_map=None if label_map is None else np.rint(label_map.data).astype(np.int64),
        )  # fmt: skip
        return ScanScore(
            score,
            None if reasons else self.calibration.p_value(score),
            {name: float(value[0]) for name, value in parts.items()},
            native,
            prepared.in_scanner_units(context.recon[0, 0].cpu().numpy()),
            tuple(regions),
            native.like(numbers),
            tuple(REASONS[name] for name in reasons),
            gain,
        )

    def calibrate(
        self,
        scans: Sequence[Scan],
        scoring_config: ScoringConfig | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Learns what healthy scans score; sets `calibration`.

        Args:
            scans: healthy scans that were not trained on, at least five.
            scoring_config: which scorers are combined and how; without any scorer, the best that
                the model has.
            progress: told how many of how many scans are done.

        Raises:
            ConfigError: E_SCORER for one that the model does not have.
            DataError: E_CALIBRATION with too few scans.
        """
        scoring_config, scoring_networks = (
            scoring_config or ScoringConfig(()),
            self.scoring_networks(),
        )
        scoring_config = replace(
            scoring_config, scorers=chosen(scoring_networks, scoring_config.scorers)
        )
        collected: dict[str, list[Tensor]] = {}
        masks: list[Tensor] = []
        statistics: list[ScanStatistics] = []
        with torch.inference_mode():
            for number, scan in enumerate(scans):
                prepared = self.prepare(scan)
                context = ScoringContext(self._batch(prepared), scoring_networks)
                statistics.append(_statistics(prepared, context))
                maps, kept = _read(context, scoring_config)
                masks += [] if kept is None else [kept]
                for name, score_map in maps.items():
                    collected.setdefault(name, []).append(score_map)
                progress(number + 1, len(scans))
            maps = {name: torch.cat(parts) for name, parts in collected.items()}
            found = calibrate(
                maps or {"none": torch.zeros(0, 1, 1, 1, 1, device="cpu")}, scoring_config,
                torch.cat(masks) if masks else None,
            )  # fmt: skip
        self.calibration = replace(found, reference=reference_statistics(statistics))

    def learn_densities(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        """Learns what is usual in healthy training scans; sets `densities`.

        A calibration made without them no longer holds and is dropped.

        Args:
            batches: gives batches of prepared volumes, (B, 1, X, Y, Z) in [-1, 1], from the first
                on at each call.
        """
        with torch.inference_mode():
            self.densities = learn_densities(
                lambda: (b.to(self.device) for b in batches()), self.scoring_networks()
            )
        self.calibration = None

    def scoring_networks(self) -> ScoringNetworks:
        """What scorers ask of this model."""
        networks, told = self.networks, self._encoded({})
        localiser = networks.localiser
        return ScoringNetworks(
            networks.encoder,
            lambda latent: self._draw_channels(latent, told)[:, :1],
            None if networks.discriminator is None else networks.discriminator.features,
            self.densities,
            localiser,
            localiser.inputs if localiser is not None else (),
        )

    def save(self, folder: str | Path, half: bool = False) -> None:
        """Writes the model folder.

        Args:
            folder: made if missing; files of an older model in it are replaced.
            half: weights in half precision: half the size, and the same volumes but for the
                last digits.
        """
        write_model(
            Path(folder),
            Stored(
                self.networks, self.preprocessing, self.sizes, self.facts, self.calibration,
                self.label_offset, self.densities,
            ),
            half,
        )  # fmt: skip

    def share(self, folder: str | Path) -> None:
        """Writes the model as one would hand it on: half precision, and without the discriminator.

        The discriminator knows its training scans by heart; drawing, encoding and scoring by
        localiser, densities and reconstruction go on without it. An audit says what is left.

        Args:
            folder: made if missing; files of an older model in it are replaced.

        Raises:
            ConfigError: E_SCORER when it is calibrated with the discriminator's features.
        """
        networks = replace(self.networks, discriminator=None)
        densities = {name: self.densities[name] for name in SHARED if name in self.densities}
        model = replace(self, networks=networks, densities=densities)
        if self.calibration is not None:
            chosen(model.scoring_networks(), self.calibration.scoring_config.scorers)
        model.save(folder, half=True)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> "Model":
        """Reads a model folder; every file is checked against its hash, nothing is executed.

        Args:
            folder: with config.json and the files it names.
            device: where the networks go.

        Raises:
            ModelError: E_MODEL.
        """
        return cls(**vars(read_model(Path(folder))), device=torch.device(device))

    def prepare(self, scan: Scan, case: str = "the scan") -> PreparedScan:
        """Reads and checks a scan as `medgan check` does, and brings it to the model's grid.

        Args:
            scan: a NIfTI file, or a volume in the scanner's intensities; a prepared scan stays.
            case: the name under which an error or a note speaks of it.

        Raises:
            DataError: when the scan is one that `medgan check` refuses.
        """
        if isinstance(scan, PreparedScan):
            return scan
        if isinstance(scan, CheckedScan):
            return self._preparation(scan.volumes, case)
        if isinstance(scan, Volume):
            check_volume(scan, case)
            return self._preparation(scan, case)
        file = check_image(Path(scan), case)
        for note in file.notes:
            log.warning("%s", note)
        return self._preparation(file.volume, case)

    def _rescaled(self, prepared: PreparedScan) -> tuple[PreparedScan, float]:
        """The scan with its middle intensities where they belong, and the gain that took.

        Those of CT stay: HU mean the same in every scanner.
        """
        if self.calibration is None or self.preprocessing.intensity == "ct":
            return prepared, 1.0
        known = self.calibration.reference
        change = known.rescaling(prepared.volume[0].numpy()) if known is not None else None
        if change is None:
            return prepared, 1.0
        gain, offset = change
        return prepared.stretched(gain, offset), gain

    def _batch(self, prepared: PreparedScan) -> Tensor:
        return prepared.volume[None].to(self.device, memory_format=torch.channels_last_3d)

    def _encode(self, prepared: PreparedScan) -> Tensor:
        with torch.inference_mode():
            return self.networks.encoder(self._batch(prepared))[0].float().cpu()

    def _reconstruct(self, prepared: PreparedScan) -> Tensor:
        """(1, 1, X, Y, Z) on the model's grid, on the CPU."""
        with torch.inference_mode():
            return self._generate(Latent(self._encode(prepared).numpy()))[:, :1]

    @torch.inference_mode()
    def _generate(self, latent: Latent, condition: Tensor | None = None) -> Tensor:
        """(1, C, X, Y, Z) on the CPU; the condition, (D,), is that of the latent unless given."""
        values = torch.from_numpy(latent.values)[None]
        condition = self._encoded(latent.covariates) if condition is None else condition
        return self._draw_channels(values, condition).cpu()

    def _draw_channels(self, values: Tensor, condition: Tensor) -> Tensor:
        """The one place where the generator is called: in tiles, unless a gradient is wanted."""
        condition = condition.to(self.device).expand(len(values), -1)
        tile = 0 if torch.is_grad_enabled() else TILE
        return self.networks.generator(values.to(self.device), condition, tile)

    def _encoded(self, covariates: Mapping[str, Value]) -> Tensor:
        return torch.from_numpy(encode(self.preprocessing.conditions, covariates))

    def _check(self, covariates: Mapping[str, Value]) -> None:
        for remark in check(self.preprocessing.conditions, covariates):
            log.warning("%s: the model has to guess", remark)

    def _synthetic(
        self,
        drawn: Tensor,
        seed: int | None,
        number: int,
        covariates: dict[str, Value],
        smallest_component: float,
    ) -> Synthetic:
        affine, labels = self._synthetic_affine(), self.preprocessing.labels
        label = None
        if labels:
            values = decode_labels(drawn[0, 1:], labels, self.label_offset).numpy()
            values = largest_components(values, labels, smallest_component)
            label = Volume(values.astype(np.uint16), affine)
        image = np.round(synthetic_scale(self.preprocessing).back(drawn[0, 0].numpy()))
        return Synthetic(Volume(image.astype(np.int16), affine), label, seed, number, covariates)

    def _project(
        self,
        prepared: PreparedScan,
        steps: int,
        covariates: Mapping[str, Value],
    ) -> Projection:
        known = understood(self.preprocessing.conditions, covariates)
        start, told = self._encode(prepared)[None].to(self.device), self._encoded(known)
        found: Fit = fit(
            lambda values: self._draw_channels(values, told)[:, :1],
            self._batch(prepared), start, steps,
        )  # fmt: skip

        def drawn(latent: Latent) -> Volume:
            with torch.inference_mode():
                return prepared.in_scanner_units(self._generate(latent)[0, 0].numpy())

        first, last = (Latent(z[0].cpu().numpy(), known) for z in (start, found.latent))
        return Projection(last, drawn(first), drawn(last), found.error_before, found.error_after)

    def _synthetic_affine(self) -> np.ndarray:
        """RAS+ with the model's spacing, the world's origin in the middle of the grid."""
        spacing = np.array(self.preprocessing.spacing)
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -spacing * (np.array(self.preprocessing.shape) - 1) / 2
        return affine


def _intensities(grid: Preprocessing) -> str:
    if grid.intensity == "mri":
        return "MRI"
    return "CT, " + " and ".join(f"{low:g} to {high:g} HU" for low, high in grid.window)


def _state(*numbers: int) -> int:
    """A seed for torch that is a function of the numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _read(context: ScoringContext, scoring_config: ScoringConfig) -> tuple[dict[str, Tensor], Mask]:
    """The maps of a scoring_config, and where they count."""
    return make_maps(context, scoring_config.scorers), foreground_mask(context, scoring_config)


def _statistics(prepared: PreparedScan, context: ScoringContext) -> ScanStatistics:
    """What is measured of a scan before it is compared with others."""
    volume, recon = (v[0, 0].float().cpu().numpy() for v in (context.volume, context.recon))
    error = float(np.abs(volume - recon).mean())
    field_of_view = prepared.source[0].field_of_view
    return ScanStatistics(volume, field_of_view, context.latent[0].cpu().numpy(), error)

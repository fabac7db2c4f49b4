"""Makes `zoo/phantom-head` of a finished run of `pipelines/phantom_head.yaml`.

    medgan run phantom_head -o runs/phantom-head
    python docs/scripts/phantom_head.py runs/phantom-head zoo/phantom-head

The localiser is trained without the generator: it sees the scan and the density alone, so that it
stays what it is while a generator learns on.
"""

import sys
from pathlib import Path

from medgan.anomaly.context import SHARED, ScoringNetworks
from medgan.core.config import LocaliserConfig
from medgan.core.progress import counting
from medgan.core.seeding import seeded
from medgan.data.batches import PreparedVolumes
from medgan.data.manifest import Manifest
from medgan.model.fresh_networks import fresh_localiser
from medgan.model.model import Model
from medgan.training.localiser import FAMILIES, train_localiser

SEED, VOLUMES = 1000, 12_000
INPUTS = ("density",)


def main(run: Path, folder: Path) -> None:
    """Trains the localiser, calibrates and writes the model in half precision.

    Args:
        run: of the pipeline.
        folder: receives the model, its discriminator too: phantoms have no privacy to lose, and
            trainings go on from it.
    """
    model = Model.load(run / "model")
    cases = Manifest.load(run / "manifest.json")
    prepared = PreparedVolumes(cases.split("train"), model.preprocessing, run / "cache")
    prepared.warm()
    model.learn_densities(prepared.batches)
    model.densities = {name: model.densities[name] for name in SHARED}
    with seeded(SEED, model.device):
        localiser = fresh_localiser(model.preprocessing, model.sizes, INPUTS)
    with counting("localiser") as tick:
        train_localiser(
            ScoringNetworks(None, None, None, model.densities), model.sizes.latent, localiser,
            [prepared.arrays(n)[0] for n in range(len(prepared))],
            list(FAMILIES), LocaliserConfig(volumes=VOLUMES, minutes=0), SEED,
            run / "checkpoints", tick,
        )  # fmt: skip
    model.networks.localiser = localiser.requires_grad_(False)
    model.facts |= {
        "localiser_families": ", ".join(FAMILIES), "localiser_volumes": VOLUMES,
        "calibration_digest": cases.digest, "data_licence": "Apache-2.0",
    }  # fmt: skip
    model.calibrate(case.images["image"] for case in cases.split("calibration"))
    model.save(folder, half=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

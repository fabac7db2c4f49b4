"""Cycle consistency in place of contrast, to compare with `medgan train harmonise`.

    PYTHONPATH=. python docs/scripts/harmonisation_cycle.py runs/harmonise runs/cycle

Two translators and two discriminators learn from the scans of a finished training, by its settings
and as many steps: what is changed there and back must be the scan (Zhu et al. 2017, arXiv
1703.10593). The translator to the wanted site replaces that of the model, for harmonisation.py.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan.core.config import build
from medgan.core.config.reading import read_yaml
from medgan.core.ranks import Ranks
from medgan.data.batches import Batch, PreparedVolumes
from medgan.data.manifest import Manifest
from medgan.model.model import Model
from medgan.training.adversary import Scalars
from medgan.training.state import TrainingState
from medgan.training.steps import average_step, descend, move
from medgan.training.tasks.harmonisation import Harmonisation

CYCLE, IDENTITY = 10.0, 5.0
"""Weights of the two errors beside the adversarial losses (section 4 of the paper)."""


def batch_of(arrays: dict[str, np.ndarray], swapped: bool) -> Batch:
    """Patches of both sites; the wanted site is the other one if `swapped`."""
    names = ("source", "volume") if swapped else ("volume", "source")
    wanted, given = (torch.from_numpy(arrays[name]) for name in names)
    return Batch({"volume": wanted, "source": given, "condition": torch.zeros(len(wanted), 0)})


def translators_loss(
    task: Harmonisation, states: tuple[TrainingState, TrainingState], batches: tuple[Batch, Batch]
) -> Tensor:
    """What both translators minimise: they deceive, come back, and leave their own site alone."""
    there, back = (state.networks.needed_translator for state in states)
    loss, scalars = torch.zeros(()), Scalars()
    for state, batch, one, other in zip(states, batches, (there, back), (back, there), strict=True):
        with state.autocast():
            changed, kept = one(batch["source"]), one(batch.volume)
            returned = other(changed)
            judged = task._judgement(state, batch, changed, len(batch))
            loss = loss + task.adversary.generator_loss(judged, scalars)
        loss = loss + CYCLE * (returned.float() - batch["source"]).abs().mean()
        loss = loss + IDENTITY * (kept.float() - batch.volume).abs().mean()
    return loss


def main(training: str, out: str) -> None:
    """Trains, and writes the model."""
    torch.set_num_threads(1)
    folder = Path(training)
    config = build(read_yaml(folder / "config.yaml"))
    model = Model.load(folder / "model")
    task = Harmonisation.of(model.preprocessing, config)
    cases = Manifest.load(folder / "manifest.json").split("train")
    volumes = PreparedVolumes(cases, model.preprocessing, folder / "cache")
    cpu, schedule = torch.device("cpu"), task.schedule
    states = (task.start(cpu), task.start(cpu))
    started = time.process_time()
    while states[0].volumes_seen < schedule.volumes:
        rng = np.random.default_rng([1, states[0].volumes_seen])
        made = [task.arrays(volumes, number, rng) for number in range(schedule.batch)]
        arrays = {name: np.stack([one[name] for one in made]) for name in made[0]}
        batches = batch_of(arrays, False), batch_of(arrays, True)
        for state, batch in zip(states, batches, strict=True):
            task.discriminator_step(state, batch)
        for state in states:
            state.generator_optimizer.zero_grad(set_to_none=True)
        descend(Ranks(), translators_loss(task, states, batches))
        for state in states:
            move(state.ranks, state.generator_optimizer, schedule.rate(state))
            state.volumes_seen += schedule.batch
            average_step(state, schedule)
    print(f"{time.process_time() - started:.0f} s of processor time")
    translator = states[0].average.needed_translator
    model.networks.needed_translator.load_state_dict(translator.state_dict())
    model.save(Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import medgan
from medgan.app.forecasting import forecast_pipeline
from medgan.app.pipeline import run_pipeline
from medgan.core.config import build
from medgan.core.errors import ConfigError, ModelError
from medgan.core.template import Template
from medgan.data.conditions import width
from medgan.data.manifest import Manifest
from medgan.model.fresh_networks import synthesis_networks
from medgan.model.model import Model
from medgan.networks.gan import Networks
from medgan.training import samples
from medgan.training.start import require_fit, start_from, start_plan
from medgan.training.tasks import chosen_task
from tests.kit.data_sets import TINY, write_folder
from tests.kit.models import AGE, GRID, SIZES, make_model

SHORT = {
    **TINY, "train": {**TINY["train"], "volumes": 4, "sample_every": 4}, "localiser": {"volumes": 8}
}  # fmt: skip
PIPELINE = json.dumps({"steps": ["index", "train", "scorers"], "config": SHORT})


def states_equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def weights(folder):
    return {
        f"{name}.{key}": value
        for name, module in medgan.load(folder).networks.modules().items()
        for key, value in module.state_dict().items()
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Scans, a pipeline, and the model of a first training in the folder of a hospital."""
    folder = tmp_path_factory.mktemp("site")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    write_folder(folder / "scans", 20)
    (folder / "tiny.yaml").write_text(PIPELINE)
    run(folder, "DOE_JANE")
    yield folder
    patch.undo()


def run(site, out, *settings):
    fixed = (f"out={site / out}", f"data.source={site / 'scans'}", *settings)
    return run_pipeline(str(site / "tiny.yaml"), fixed)


def from_first(site):
    return f"train.start_from={site / 'DOE_JANE' / 'model'}"


def test_a_training_starts_from_all_weights_of_a_model_and_from_its_averages():
    start = make_model(GRID, seed=3)
    config = build({**TINY, "train": {**TINY["train"], "seed": 1}})
    state = chosen_task(GRID, config).start(torch.device("cpu"))
    fresh = {n: m.state_dict() for n, m in state.networks.modules().items()}
    assert not states_equal(fresh["generator"], start.networks.generator.state_dict())
    start_from(state, start)
    for networks in (state.networks, state.average):
        for name, module in networks.modules().items():
            assert states_equal(module.state_dict(), start.networks.modules()[name].state_dict())
    assert all(p.requires_grad for p in state.networks.generator.parameters())


def test_a_model_without_discriminator_leaves_the_fresh_one():
    start = make_model(GRID, seed=3)
    start = replace(start, networks=start.networks.without_discriminator())
    config = build(TINY)
    state = chosen_task(GRID, config).start(torch.device("cpu"))
    fresh = {k: v.clone() for k, v in state.networks.critic.state_dict().items()}
    start_from(state, start)
    assert states_equal(fresh, state.networks.critic.state_dict())
    known = start.networks.generator.state_dict()
    assert states_equal(known, state.networks.generator.state_dict())


def test_a_training_on_finer_voxels_starts_from_all_but_the_finest_layers():
    sizes = SIZES.model_copy(update={"stem_stages": 2, "stem_channels": 8})
    grid = GRID.model_copy(update={"spacing": (4.0, 4.0, 4.0)})
    networks = synthesis_networks(grid, sizes, 0, width(grid.conditions))
    coarse = Model(networks, grid, sizes, {})
    finer = {"stem_stages": 3, "stem_channels": 4}
    half = {"spacing": (2.0, 2.0, 2.0), "shape": tuple(2 * n for n in grid.shape)}
    here = grid.model_copy(update=half), sizes.model_copy(update=finer)
    require_fit(*here, "synthesis", coarse)
    with pytest.raises(ModelError, match=r"data\.spacing"):
        require_fit(*here, "", coarse)  # scorers alone are learned: template and grid must be its
    values = {"model": here[1].model_dump()}
    state = chosen_task(here[0], build(values)).start(torch.device("cpu"))
    start_from(state, coarse)
    taken = coarse.networks.generator.state_dict()
    for networks in (state.networks, state.average):
        found = networks.generator.state_dict()
        same = {n for n in found if n in taken and torch.equal(found[n], taken[n])}
        anew = {name for name in found.keys() - same if not name.endswith("bias")}
        assert {name.split(".")[0] for name in anew} == {"stem_stages", "stem", "out"}
        assert not any(name.startswith("stem_stages.0") for name in anew)
        assert {name.split(".")[0] for name in same} >= {"start", "scales", "stages", "ups"}
    with pytest.raises(ModelError, match=r"data\.spacing \[2,2,2\] here and \[4,4,4\] there"):
        require_fit(here[0], sizes, "synthesis", coarse)


def test_blocks_of_the_stem_that_are_added_change_nothing_at_first():
    sizes = SIZES.model_copy(update={"stem_stages": 2})
    known = width(GRID.conditions)
    start = Model(synthesis_networks(GRID, sizes, 1, known), GRID, sizes, {})
    more = sizes.model_copy(update={"stem_blocks": 2})
    require_fit(GRID, more, "synthesis", start)
    grown = Model(synthesis_networks(GRID, more, 1, known), GRID, more, {})
    with pytest.raises(ModelError, match=r"model\.stem_blocks 0 here and 2 there"):
        require_fit(GRID, sizes, "synthesis", grown)
    state = chosen_task(GRID, build({"model": more.model_dump()})).start(torch.device("cpu"))
    start_from(state, start)
    latent, volume = torch.randn(2, sizes.latent), torch.rand(2, 1, *GRID.shape)
    for old, new in ((start.networks, state.networks), (start.networks, state.average)):
        assert len(new.generator.stem_blocks) == len(new.critic.trunk.stem_blocks) == 2
        assert torch.equal(old.generator(latent), new.generator(latent))
        assert torch.equal(old.critic(volume), new.critic(volume))


@pytest.mark.fault(32)
def test_one_error_says_all_that_differs_and_the_settings_that_would_fit():
    grid = GRID.model_copy(update={"shape": (32, 16, 16), "labels": (1, 2), "conditions": (AGE,)})
    sizes = SIZES.model_copy(update={"widths": (16, 32)})
    with pytest.raises(ModelError) as refused:
        require_fit(grid, sizes, "synthesis", make_model(GRID))
    said = str(refused.value)
    assert "data.shape [32,16,16] here and [16,16,16] there" in said
    assert "model.widths [16,32] here and [16,16] there" in said
    assert "set data.shape=[16,16,16] data.labels=[1] data.conditions={} model.widths" in said
    with pytest.raises(ModelError, match=r"train\.task restoration here and synthesis there"):
        require_fit(GRID, SIZES, "restoration", make_model(GRID))
    require_fit(GRID, SIZES, "synthesis", make_model(GRID))
    bare = replace(make_model(GRID), networks=Networks())
    require_fit(GRID, SIZES, "", bare)  # a model that scorers alone are learned for
    with pytest.raises(ModelError, match=r"train\.task synthesis here and none there"):
        require_fit(GRID, SIZES, "synthesis", bare)


def test_a_training_goes_on_from_a_model_and_says_from_which(site):
    run(site, "tuned", from_first(site), "train.learning_rate=1e-12", "localiser.volumes=0")
    first, tuned = weights(site / "DOE_JANE" / "model"), weights(site / "tuned" / "model")
    for name, value in first.items():
        assert torch.allclose(value, tuned[name], atol=1e-6), name  # hardly moved, localiser too
    digest = medgan.load(site / "DOE_JANE" / "model").digest
    facts = json.loads((site / "tuned" / "model" / "config.json").read_text())["facts"]
    assert facts["started_from"] == digest
    assert f"- Started from: {digest}" in (site / "tuned" / "model" / "card.md").read_text()
    written = [p for p in (site / "tuned").rglob("*") if p.suffix in (".json", ".yaml", ".md")]
    assert not [p for p in written if "DOE_JANE" in p.read_text()]


def test_weights_that_a_training_makes_worse_stay_those_of_the_start(site, monkeypatch):
    worse = itertools.count()  # so poor a model is made better by nearly any change
    monkeypatch.setattr(samples, "kernel_distance", lambda *_: torch.tensor(float(next(worse))))
    run(site, "worse", from_first(site), "train.learning_rate=0.1", "localiser.volumes=0")
    first, kept = weights(site / "DOE_JANE" / "model"), weights(site / "worse" / "model")
    for name, value in first.items():
        assert torch.equal(value, kept[name]), name
    facts = json.loads((site / "worse" / "model" / "config.json").read_text())["facts"]
    assert facts["best_at"] == 0


def test_grid_and_localiser_are_taken_from_the_model(site):
    run(site, "auto", from_first(site), "data.spacing=auto", "data.shape=auto")
    model = medgan.load(site / "auto" / "model")
    assert (model.preprocessing.spacing, model.preprocessing.shape) == ((2, 2, 2), (16, 16, 16))
    first = medgan.load(site / "DOE_JANE" / "model").networks.localiser
    assert first is not None
    assert model.networks.localiser is not None
    learned = model.networks.localiser.state_dict()
    moved = max(float((learned[k] - v).abs().max()) for k, v in first.state_dict().items())
    assert 0 < moved < 0.01  # by one step, not to other random weights


def test_a_resumed_training_ends_as_if_it_had_not_stopped_and_keeps_its_start(site):
    start, short = from_first(site), ("localiser.volumes=0",)
    run(site, "parts", start, *short)
    whole = medgan.load(site / "parts" / "model").digest
    checkpoints = site / "parts" / "checkpoints"
    for mark in checkpoints.glob("*4.*"):  # as if it had been stopped after the one before
        mark.unlink()
    with pytest.raises(ConfigError, match="another model to start from"):
        run(site, "parts", *short)
    with pytest.raises(ConfigError, match="another model to start from"):
        run(site, "parts", f"train.start_from={site / 'auto' / 'model'}", *short)
    assert sorted(path.stem for path in checkpoints.glob("0*.json")) == ["000000002"]
    run(site, "parts", start, *short)
    assert medgan.load(site / "parts" / "model").digest == whole


def test_scans_are_aligned_with_the_template_of_the_model(site):
    rng = np.random.default_rng(0)
    mean = rng.uniform(-0.5, 1, (1, 16, 16, 16)).astype(np.float32)
    template = Template(
        mean, np.ones_like(mean), np.linspace(-1, 1, 11, dtype=np.float32)[None], 0.9
    )
    known = {"align": "affine", "template": template}
    start = replace(make_model(GRID), preprocessing=GRID.model_copy(update=known))
    cases = Manifest.load(site / "DOE_JANE" / "manifest.json").split("train")
    aligned = build(TINY, ["data.align=affine", "data.spacing=auto", "data.shape=auto"])
    assert start_plan(aligned, cases, start).template is template
    with pytest.raises(ModelError, match=r"data\.align none here and affine there"):
        start_plan(build(TINY), cases, start)


def test_a_model_of_another_grid_is_refused_before_anything_is_trained(site):
    with pytest.raises(ModelError, match=r"E_START .*data\.shape \[32,16,16\] here"):
        run(site, "other", from_first(site), "data.shape=[32,16,16]")
    assert not list((site / "other").rglob("*.safetensors"))
    settings = [from_first(site), "model.latent=16"]
    with pytest.raises(ModelError, match=r"model\.latent 16 here and 8 there"):
        forecast_pipeline(str(site / "tiny.yaml"), settings)


def test_pipelines_that_do_not_train_a_model_refuse_a_start(site):
    with pytest.raises(ConfigError, match="E_SET"):
        run_pipeline("utility", [f"out={site / 'u'}", f"data.source={site / 'scans'}",
                                 "train.start_from=zoo/hippocampus"])  # fmt: skip

from dataclasses import replace

import pytest
import torch

from medgan.anomaly.context import ScoringContext, ScoringNetworks, network_input
from medgan.anomaly.features import smoothed
from medgan.anomaly.maps import feature_map, residual_map, similarity_map
from medgan.anomaly.scorers import SCORERS, available, chosen, learn_densities, make_maps
from medgan.anomaly.statistics import floored
from medgan.core.errors import ConfigError
from medgan.networks.blocks import Stages
from medgan.networks.gan import Networks
from medgan.networks.localiser import Localiser
from medgan.networks.restorer import Restorer

SHAPE = (16, 16, 16)
NO_MAP = {"latent", "reencoding"}


def healthy(count: int, seed: int = 0) -> torch.Tensor:
    own = torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return smoothed(own, 1.5).clamp(-1, 1)


@pytest.fixture(scope="module")
def scoring_networks() -> ScoringNetworks:
    torch.manual_seed(0)
    networks = Networks.build(SHAPE, 0, 8, Stages((8, 8), 4, 1))
    networks.requires_grad(False)
    made = ScoringNetworks(
        networks.encoder, networks.generator, networks.discriminator.features, {}
    )
    localiser = Localiser(("density", "recon"), Stages((8, 8), 4, 1)).requires_grad_(False)
    learned = learn_densities(lambda: healthy(24).split(5), made)
    restorer = Restorer(("density",), 1, 2, Stages((8, 8), 4, 1)).requires_grad_(False)
    return replace(
        made, densities=learned, localise=localiser, inputs=localiser.inputs,
        restore=restorer, restorer_inputs=restorer.inputs,
        healthy=floored(healthy(24).mean(dim=0), healthy(24).std(dim=0)),
    )  # fmt: skip


def test_every_scorer_maps_each_volume_by_itself(scoring_networks):
    volumes = healthy(3, seed=1)
    together = make_maps(ScoringContext(volumes, scoring_networks), tuple(SCORERS))
    alone = make_maps(ScoringContext(volumes[1:2], scoring_networks), tuple(SCORERS))
    assert list(together) == list(SCORERS)
    for name, score_map in together.items():
        size = (1, 1, 1) if name in NO_MAP else SHAPE
        assert score_map.shape == (3, 1, *size), name
        assert torch.isfinite(score_map).all()
        assert torch.allclose(score_map[1:2], alone[name], rtol=2e-2, atol=2e-3), name
        assert not torch.allclose(score_map[0], score_map[1], rtol=1e-4), name


def test_residuals_are_those_of_the_encoders_reconstruction(scoring_networks):
    volumes = healthy(2, seed=1)
    recon = scoring_networks.generate(scoring_networks.encode(volumes))
    maps = make_maps(
        ScoringContext(volumes, scoring_networks), ("residual", "similarity", "features")
    )
    assert torch.allclose(maps["residual"], residual_map(volumes, recon))
    assert torch.allclose(maps["similarity"], similarity_map(volumes, recon))
    seen, drawn = scoring_networks.features(volumes), scoring_networks.features(recon)
    assert torch.allclose(maps["features"], feature_map(seen, drawn, SHAPE))


@pytest.mark.parametrize("name", ["density", "discriminator"])
def test_what_training_scans_never_had_is_far_from_usual_there_and_not_elsewhere(
    scoring_networks, name
):
    volume = healthy(1, seed=2)
    spoiled = volume.clone()
    spoiled[..., 2:6, 2:6, 2:6] = 1.0
    before, after = (
        make_maps(ScoringContext(v, scoring_networks), (name,))[name] for v in (volume, spoiled)
    )
    change = (after - before)[0, 0]
    assert change[3:5, 3:5, 3:5].min() > 0.5
    assert change[11:, 11:, 11:].abs().max() < 0.25 * change[3:5, 3:5, 3:5].mean()


def test_a_better_latent_leaves_less(scoring_networks):
    volumes = healthy(2, seed=3)
    maps = make_maps(ScoringContext(volumes, scoring_networks), ("residual", "refined"))
    assert (maps["refined"].mean(dim=(1, 2, 3, 4)) < maps["residual"].mean(dim=(1, 2, 3, 4))).all()


def test_a_latent_far_from_those_of_training_scans_stands_out(scoring_networks):
    usual, strange = healthy(4, seed=4), -3 * torch.ones(1, 1, *SHAPE)
    found = [
        make_maps(ScoringContext(v, scoring_networks), ("latent",))["latent"]
        for v in (usual, strange)
    ]
    assert found[1].min() > 2 * found[0].max()


def test_the_ensemble_says_less_where_reconstructions_differ(scoring_networks):
    def wavering(latent: torch.Tensor) -> torch.Tensor:
        drawn = torch.zeros(len(latent), 1, *SHAPE)
        drawn[..., :8] = latent[:, :1, None, None, None]
        return drawn

    context = ScoringContext(torch.ones(1, 1, *SHAPE), replace(scoring_networks, generate=wavering))
    found = make_maps(context, ("ensemble",))["ensemble"]
    assert found[..., 8:].min() > 2 * found[..., :8].max()


def test_the_localiser_sees_the_volume_and_what_it_looks_at(scoring_networks):
    context = ScoringContext(healthy(2, seed=5), scoring_networks)
    shown = network_input(context, scoring_networks.inputs)
    assert torch.equal(shown[:, :1], context.volume)
    assert torch.equal(shown[:, 1:2], context.distance - 1)
    assert torch.equal(shown[:, 2:], context.counterpart)
    assert scoring_networks.localise is not None
    assert torch.equal(
        make_maps(context, ("localiser",))["localiser"], scoring_networks.localise(shown)
    )


def test_a_model_is_asked_for_no_more_than_it_has(scoring_networks):
    bare = replace(scoring_networks, densities={}, localise=None, healthy=None)
    assert set(SCORERS) - set(available(bare)) == {
        "density", "discriminator", "latent", "localiser", "restoration", "darker", "brighter",
    }  # fmt: skip
    assert chosen(bare, ()) == ("residual", "similarity", "features")
    assert chosen(scoring_networks, ()) == ("localiser",)
    without = replace(scoring_networks, localise=None)
    assert chosen(without, ()) == ("restoration",)
    assert chosen(replace(without, restore=None), ()) == ("density",)
    assert chosen(scoring_networks, ("latent", "residual")) == ("latent", "residual")
    for asked in (("localiser",), ("nonsense",)):
        with pytest.raises(ConfigError, match=asked[0]) as caught:
            chosen(bare, asked)
        assert caught.value.code == "E_SCORER"


def test_a_density_comes_back_from_its_packed_form(scoring_networks):
    for density in scoring_networks.densities.values():
        again = type(density).unpacked(*density.packed())
        assert torch.equal(again.whitening, density.whitening)
        assert density.whitening.triu(1).abs().max() == 0


def test_a_dark_spot_is_darker_and_not_brighter_in_healthy_standard_deviations(scoring_networks):
    volume = scoring_networks.healthy.mean[None].clone()
    volume[..., 8, 8, 8] -= 3 * scoring_networks.healthy.spread[0, 8, 8, 8]
    maps = make_maps(ScoringContext(volume, scoring_networks), ("darker", "brighter"))
    assert maps["darker"].max() == maps["darker"][0, 0, 8, 8, 8] > 0.5
    assert torch.equal(maps["brighter"], -maps["darker"])
    assert maps["darker"].sum() == pytest.approx(3, rel=1e-2)


def test_a_localiser_that_needs_a_template_is_not_offered_without(scoring_networks):
    aligned = replace(scoring_networks, inputs=("density", "deviation"))
    assert "localiser" in available(aligned)
    assert "localiser" not in available(replace(aligned, healthy=None))

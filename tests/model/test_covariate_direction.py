"""Directions of the latent that follow a covariate."""

import numpy as np
import pytest

from medgan.core.errors import ConfigError
from medgan.model.covariate_direction import covariate_direction

RNG = np.random.default_rng(0)
LATENTS = RNG.standard_normal((80, 16))
SUBJECTS = [f"s-{n}" for n in range(80)]


def test_the_direction_of_a_covariate_is_the_one_that_latents_were_moved_along():
    age = RNG.uniform(20, 80, 80)
    truth = np.zeros(16)
    truth[3] = 1.5
    latents = LATENTS + (age - age.mean())[:, None] / age.std() * truth
    values = [None, *age[1:]]
    found = covariate_direction("age", latents.astype(np.float32), values, SUBJECTS)
    assert found.found
    assert found.scans == 79
    assert found.correlation.value > 0.6
    assert found.vector @ truth / (np.linalg.norm(found.vector) * 1.5) > 0.9
    assert np.linalg.norm(found.vector) == pytest.approx(1.5, rel=0.2)
    assert float(found.unit) == pytest.approx(age.std(), rel=0.02)


def test_two_categories_are_followed_from_the_first_to_the_second():
    sex = ["F", "M"] * 40
    latents = LATENTS + np.outer([-1.0, 1.0] * 40, np.eye(16)[5])
    found = covariate_direction("sex", latents, sex, SUBJECTS)
    assert (found.found, found.unit) == (True, "F to M")
    assert found.vector[5] == pytest.approx(1.0, abs=0.3)


def test_of_a_covariate_that_latents_do_not_tell_none_is_found():
    found = covariate_direction("age", LATENTS, list(RNG.uniform(20, 80, 80)), SUBJECTS)
    assert not found.found
    assert found.words.startswith("none found: correlation ")


def test_a_subject_with_several_scans_does_not_tell_about_itself():
    age = np.repeat(RNG.uniform(20, 80, 40), 2)
    twice, subjects = np.repeat(LATENTS[:40], 2, axis=0), np.repeat(SUBJECTS[:40], 2)
    assert not covariate_direction("age", twice, list(age), list(subjects)).found


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([None] * 80, "no scan has a value"),
        (["A", "B", "C", "D"] * 20, "4 categories"),
        ([50.0, 60.0] * 5 + [None] * 70, "10 scans have a value"),
    ],
)
def test_what_cannot_be_followed_is_refused(values, text):
    with pytest.raises(ConfigError, match=f"E_CONDITION age: {text}"):
        covariate_direction("age", LATENTS, values, SUBJECTS)

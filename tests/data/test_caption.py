import numpy as np
import pytest

from medgan.core.errors import ConfigError, EnvironmentFailure
from medgan.data import caption as module
from medgan.data import words as words_module
from medgan.data.caption import FEATURES, MOST_WORDS, encode_caption, read_caption
from medgan.data.conditions import check, draw, encode, learn, understood, width
from medgan.data.sentence import covariates_of_sentence
from medgan.data.words import VECTOR, vector_of
from tests.kit.captions import CAPTIONS, case_with, fake_vector, learned
from tests.kit.models import AGE, SEX

READ = "'spiculated' is in no training caption and is read as 'spiculation'"


@pytest.fixture(autouse=True)
def vectors(monkeypatch):
    monkeypatch.setattr(module, "vector_of", fake_vector)
    module._most_similar.cache_clear()
    yield
    module._most_similar.cache_clear()


@pytest.fixture
def captions():
    return learned()


def test_words_of_two_captions_are_kept_and_a_name_is_not(captions):
    assert captions.kind == "text"
    assert {"round", "spiculation", "no spiculation", "number mm"} <= set(captions.values)
    assert not {"miller", "lobulation", "8"} & set(captions.values)
    assert captions.quantiles == (8, 32)
    assert captions.mean == pytest.approx(np.log([8, 20, 20, 32]).mean())


@pytest.mark.parametrize(
    ("sentence", "words", "remarks"),
    [
        ("a solid nodule of 2 cm", ("a", "solid", "nodule", "of", "20", "mm"), []),
        ("spiculated", ("spiculation",), [READ]),
        ("without any spiculation", None, []),
        ("without spiculation", ("no", "spiculation"), []),
        ("not spiculated", ("no", "spiculation"), [READ]),
        ("the nodule is round", ("nodule", "round"), []),
        ("50 mm", ("50", "mm"), ["50 is outside the 8 to 32 trained on"]),
    ],
)
def test_a_caption_is_read_in_words_of_the_training_captions(captions, sentence, words, remarks):
    reading = read_caption(sentence, captions)
    if words is None:
        assert reading.lost == ("without any",)
    else:
        assert (reading.words, list(reading.remarks), reading.lost) == (words, remarks, ())


@pytest.mark.parametrize(
    ("sentence", "lost"),
    [
        ("a kidney with a tumour", "'kidney', 'tumour'"),
        ("not suspicious", "'not suspicious'"),
        ("not 20 mm", "'not 20'"),
        ("2 round nodules of 20 mm", "'2', 'nodules'"),
        ("20 years", "'20', 'years'"),
        ("unspiculated", "'unspiculated'"),
        ("unhighly suspicious", "'unhighly'"),
        ("round but not", "'not'"),
        ("miller", "'miller'"),
    ],
)
def test_what_no_training_caption_says_is_refused_negations_too(captions, sentence, lost):
    with pytest.raises(ConfigError, match=f"E_TEXT the text: not understood: {lost}; leave it out"):
        check((captions,), {"caption": sentence})


def test_an_encoded_caption_has_a_row_a_word_and_its_numbers_apart(captions):
    rows = encode_caption("solid nodule of 2 cm", captions).reshape(MOST_WORDS, FEATURES)
    assert np.array_equal(rows[0, :VECTOR], fake_vector("solid"))
    log = (np.log(20) - captions.mean) / captions.spread
    assert not rows[3, :VECTOR].any()
    assert rows[3, VECTOR:] == pytest.approx([8 * log, 8])
    assert not rows[5:].any()


def test_captions_are_a_condition_beside_others_and_unknown_unless_asked_for(captions):
    cases = [case_with(age="50", sex="F", report=text) for text in CAPTIONS] + [
        case_with(report="n/a")
    ]
    known = learn({"sex": "categorical", "age": "continuous"}, cases, "report")
    assert [condition.name for condition in known] == ["age", "sex", "report"]
    both = (AGE, SEX, captions)
    assert width(both) == 4 + MOST_WORDS * FEATURES
    assert not encode(both, {"caption": None}).any()
    assert encode(both, {"caption": "solid"})[4:].any()
    assert draw(both, {}, np.random.default_rng(0))["caption"] is None
    assert draw(both, {"caption": "solid"}, np.random.default_rng(0))["caption"] == "solid"
    known = understood(both, {"caption": "A solid kidney of 2 cm"})
    assert known["caption"] == "a solid of 20 mm"
    assert check(both, known) == []
    assert understood(both, {"caption": "kidney"})["caption"] is None


def test_a_sentence_gives_covariates_first_and_the_rest_is_the_caption(captions):
    text = "a 70-year-old woman with no spiculation"
    found = covariates_of_sentence(text, (AGE, SEX, captions))
    assert found == {"age": "70", "sex": "F", "caption": "a with no spiculation"}
    assert covariates_of_sentence("A solid nodule", (captions,)) == {"caption": "A solid nodule"}
    assert covariates_of_sentence("a scan of a man", (SEX, captions)) == {"sex": "M"}


def test_without_wordllama_it_is_said(monkeypatch):
    monkeypatch.setattr(words_module, "find_spec", lambda name: None)
    words_module._vectors.cache_clear()
    words_module._vector.cache_clear()
    with pytest.raises(EnvironmentFailure, match=r"E_EXTRA wordllama: .*medgan\[text\]"):
        vector_of("nodule")


def test_words_of_one_meaning_are_alike_in_the_vectors_of_the_wheel():
    pytest.importorskip("wordllama", exc_type=ImportError)
    alike, apart = (
        float(vector_of("spiculated") @ vector_of(other)) / 256
        for other in ("spiculation", "kidney")
    )
    assert alike > 0.8
    assert apart < 0.2

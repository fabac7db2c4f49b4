import pytest

from medgan.core.config import Condition
from medgan.core.errors import ConfigError
from medgan.data.sentence import covariates_of_sentence, read_sentence
from tests.kit.models import AGE, SEX


def categories(name: str, *values: str) -> Condition:
    return Condition(name=name, kind="categorical", values=values, shares=(0.1,) * len(values))


def number(name: str) -> Condition:
    return Condition(name=name, kind="continuous", mean=3, spread=1, quantiles=(1, 5))


PEOPLE = (
    AGE, SEX, categories("diagnosis", "AD", "CN", "MCI"), categories("smoker", "no", "yes"),
)  # fmt: skip
NODULES = (number("diameter_mm"), number("malignancy"), number("label_1_mm3"))


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [
        ("a 70-year-old woman", {"age": "70", "sex": "F"}),
        ("a scan of a man, aged 61.5", {"age": "61.5", "sex": "M"}),
        ("70yo F", {"age": "70", "sex": "F"}),
        ("a girl, 18 months old", {"age": "1.5", "sex": "F"}),
        ("70 years of age, sex unknown", {"age": "70", "sex": "unknown"}),
        ("age=70, sex: M", {"age": "70", "sex": "M"}),
        ("a person with AD", {"diagnosis": "AD"}),
        ("a smoker with diagnosis MCI", {"smoker": "yes", "diagnosis": "MCI"}),
        ("a patient", {}),
    ],
)
def test_a_sentence_about_people_is_read(sentence, wanted):
    assert covariates_of_sentence(sentence, PEOPLE) == wanted


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [
        ("20 mm, malignancy 4.5", {"diameter_mm": "20", "malignancy": "4.5"}),
        ("2 cm in diameter", {"diameter_mm": "20"}),
        ("diameter_mm 8", {"diameter_mm": "8"}),
        ("malignancy of 5 and 3 ml of label 1", {"malignancy": "5", "label_1_mm3": "3000"}),
        ("40 cubic mm", {"label_1_mm3": "40"}),
        ("40 mm³", {"label_1_mm3": "40"}),
    ],
)
def test_numbers_are_read_in_the_unit_of_their_condition(sentence, wanted):
    assert covariates_of_sentence(sentence, NODULES) == wanted


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [
        ("not a woman", {"sex": "M"}),
        ("a person who isn't a man, but a woman", {"sex": "F"}),
        ("a non-smoker", {"smoker": "no"}),
    ],
)
def test_a_negated_category_of_two_is_the_other_one(sentence, wanted):
    assert covariates_of_sentence(sentence, PEOPLE) == wanted


@pytest.mark.parametrize(
    ("sentence", "lost"),
    [
        ("a healthy old woman with a tumour", ["healthy old", "tumour"]),
        ("without AD", ["without ad"]),
        ("not 70 years old", ["not 70 years old"]),
        ("older than 60", ["older than 60"]),
        ("60 to 70 years", ["60 to"]),
        ("age 70 mm", ["mm"]),
        ("age > 70", ["age > 70"]),
        ("70", ["70"]),
        ("a woman, not", ["not"]),
    ],
)
def test_what_is_not_understood_is_said_and_negations_of_numbers_are_part_of_it(sentence, lost):
    assert list(read_sentence(sentence, PEOPLE).lost) == lost
    with pytest.raises(ConfigError, match="E_TEXT the text: not understood: '" + lost[0]):
        covariates_of_sentence(sentence, PEOPLE)


@pytest.mark.parametrize(
    ("sentence", "given", "text"),
    [
        ("a woman and a man", {}, "sex is asked for twice; ask for one value"),
        ("a man or a woman", {}, "sex is asked for twice"),
        ("a woman", {"sex": "M"}, "sex is also given beside it; say it once"),
        ("elderly", {}, r"leave it out, or say age \(20 to 80 years\); sex \(F, M\); diagnosis"),
    ],
)
def test_what_contradicts_itself_is_refused_with_what_can_be_said(sentence, given, text):
    with pytest.raises(ConfigError, match=text):
        covariates_of_sentence(sentence, PEOPLE, given)


def test_another_age_is_not_called_age():
    known = (AGE, number("age_at_onset"))
    assert covariates_of_sentence("70 years old", known) == {"age": "70"}
    assert covariates_of_sentence("age at onset of 50", known) == {"age_at_onset": "50"}


def test_a_word_of_two_conditions_needs_the_name_of_one():
    two = (categories("left", "AD", "CN"), categories("right", "AD", "CN"))
    with pytest.raises(ConfigError, match="'ad' may be left or right; name the one that is meant"):
        covariates_of_sentence("AD", two)
    assert covariates_of_sentence("left AD, right CN", two) == {"left": "AD", "right": "CN"}


def test_a_model_without_conditions_takes_no_text_and_no_text_asks_for_nothing():
    with pytest.raises(ConfigError, match="E_TEXT the text: the model has no conditions"):
        covariates_of_sentence("a woman", ())
    assert covariates_of_sentence(" ", (), {"age": 3}) == {"age": 3}

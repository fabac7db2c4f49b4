import difflib
import typing

import pytest
import yaml
from pydantic import ValidationError

from medgan.core.config import (
    Config,
    DataConfig,
    ModelConfig,
    Preprocessing,
    Section,
    TrainConfig,
    build,
    merge,
    read_yaml,
)
from medgan.core.errors import ConfigError, Exit


def refusal(values, overrides=()) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build(values, overrides)
    return caught.value


def leaves(section=Config, prefix=""):
    """Every setting by its dotted path."""
    for name, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


LEAVES = dict(leaves())


def test_nothing_said_gives_the_defaults_and_the_defaults_are_valid():
    assert build({}) == Config()
    assert build(Config().model_dump()) == Config()
    assert Config.model_validate_json(build({}).model_dump_json()) == Config()


@pytest.mark.fault(46)
@pytest.mark.parametrize("path", LEAVES)
def test_every_setting_is_described_in_a_short_line(path):
    description = LEAVES[path].description
    assert description, path
    assert "\n" not in description
    assert not description.endswith(".")


@pytest.mark.fault(46)
def test_the_settings_are_found_in_all_sections():
    sections = {path.split(".")[0] for path in LEAVES if "." in path}
    assert sections >= {"data", "model", "train", "score", "generate", "phantoms", "tracking"}


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    ("values", "where", "meant"),
    [
        ({"trian": {}}, "trian", "train"),
        ({"uot": "x"}, "uot", "out"),
        ({"train": {"btach": 3}}, "train.btach", "train.batch"),
        ({"data": {"shapes": "auto"}}, "data.shapes", "data.shape"),
        ({"phantoms": {"subjcts": [8, 2]}}, "phantoms.subjcts", "phantoms.subjects"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(values, where, meant, measured):
    error = refusal(values)
    assert (error.code, error.where) == ("E_KEY", where)
    assert error.remedy == f"did you mean {meant}?"
    assert error.exit_status == Exit.USAGE
    measured(f"{where}: {error.remedy}")


@pytest.mark.fault(46)
@pytest.mark.fault(46)
@pytest.mark.parametrize("path", [p for p in LEAVES if "." in p])
def test_a_letter_too_many_is_traced_back_to_the_setting_meant(path):
    section, name = path.split(".")
    known = [p.split(".")[1] for p in LEAVES if p.startswith(f"{section}.")]
    assert difflib.get_close_matches(f"{name}q", known, n=1) == [name]
    assert refusal({}, [f"{path}q=1"]).remedy == f"did you mean {path}?"


@pytest.mark.fault(46)
def test_a_key_like_none_that_is_known_still_gets_a_suggestion():
    assert refusal({"zzzz": 1}).remedy.startswith("did you mean ")
    assert refusal({}, ["=5"]).code == "E_KEY"


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("train.batch=1", "train.batch"),
        ("train.batch=many", "train.batch"),
        ("train.batch=2.5", "train.batch"),
        ("train.batch=", "train.batch"),
        ("train.batch.size=4", "train.batch"),
        ("train.seed=-1", "train.seed"),
        ("train.gamma=0", "train.gamma"),
        ("train.gamma=.inf", "train.gamma"),
        ("train.gamma=.nan", "train.gamma"),
        ("train.learning_rate=.nan", "train.learning_rate"),
        ("train.precision=fp16", "train.precision"),
        ("train=5", "train"),
        ("train=", "train"),
        ("score.top_fraction=0", "score.top_fraction"),
        ("score.top_fraction=1.01", "score.top_fraction"),
        ("model.widths=[8]", "model.widths"),
        ("model.widths=[8, 8, 8, 8, 8]", "model.widths"),
        ("model.widths=[8, 0]", "model.widths.1"),
        ("out=123", "out"),
        ("data.fractions=[0.5, 0.3, 0.2]", "data.fractions.3"),
        ("data.healthy=[control]", "data.healthy"),
        ("data.shape=[16, 24, 32]", "data.shape.1"),
        ("data.shape=[0, 16, 16]", "data.shape.0"),
        ("data.shape=small", "data.shape"),
        ("data.spacing=[1, 1, 0]", "data.spacing.2"),
        ("data.labels=[a]", "data.labels.0"),
        ("data.window=[240, -160]", "data.window"),
    ],
)
def test_a_value_of_a_wrong_type_or_range_is_refused_at_its_full_path(override, where):
    error = refusal({}, [override])
    assert (error.code, error.where) == ("E_VALUE", where)
    assert error.what


def test_a_misspelt_auto_is_told_what_it_could_be():
    assert "'auto'" in refusal({"data": {"shape": "atuo"}}).what
    assert refusal({"data": {"window": [3, 1]}}).what == "must rise, not 3.0 to 1.0"


def test_a_window_has_a_name_or_two_numbers_and_is_for_ct_alone():
    ct = {"data": {"intensity": "ct"}}
    for name, window in (
        ("lung", (-1350, 150)),
        ("Soft_Tissue", (-160, 240)),
        ("bone", (-500, 1300)),
    ):
        assert build(ct, [f"data.window={name}"]).data.window == (window,)
    assert (
        build(ct, ["data.window=[0, 80]"]).data.window
        == build(ct, ["data.window=brain"]).data.window
    )
    several = build(ct, ["data.window=[lung, soft tissue, [0, 80]]"]).data.window
    assert several == ((-1350, 150), (-160, 240), (0, 80))
    assert "150 to 300 HU" in refusal(ct, ["data.window=[lung, [300, 900]]"]).what
    assert "twice" in refusal(ct, ["data.window=[bone, lung, bone]"]).what
    assert refusal(ct, ["data.window=[]"]).where == "data.window"
    error = refusal(ct, ["data.window=liver"])
    assert error.where == "data.window"
    assert "soft tissue" in error.what
    assert "data.intensity" in refusal({}, ["data.window=lung"]).what


@pytest.mark.fault(46)
def test_a_key_that_is_no_string_is_refused():
    assert refusal({"train": {7: 1}}).where == "train.7"


def test_overrides_are_yaml():
    config = build(
        {},
        [
            "model.widths=[8, 16]",
            "data.healthy={diagnosis: [control, healthy]}",
            "data.healthy.site=[a]",
            "data.shape=[16, 48, 32]",
            "data.spacing=auto",
            "train.learning_rate=2e-4",
            "out=a=b c",
            "tracking.name='123'",
            "train.batch = 4",
        ],
    )
    assert config.model.widths == (8, 16)
    assert config.data.healthy == {"diagnosis": ["control", "healthy"], "site": ["a"]}
    assert config.data.shape == (16, 48, 32)
    assert config.data.spacing == "auto"
    assert config.train.learning_rate == 2e-4
    assert config.train.batch == 4
    assert config.out == "a=b c"
    assert config.tracking.name == "123"


def test_overrides_win_over_the_file_and_later_ones_over_earlier():
    values = {"train": {"batch": 4, "gamma": 5.0}, "out": "file"}
    config = build(values, ["train.batch=6", "train.batch=8", "out=set"])
    assert (config.train.batch, config.train.gamma, config.out) == (8, 5.0, "set")
    assert values == {"train": {"batch": 4, "gamma": 5.0}, "out": "file"}


@pytest.mark.parametrize("override", ["train.batch", "", "train.batch 4"])
def test_an_override_without_a_value_is_refused(override):
    error = refusal({}, [override])
    assert (error.code, error.where) == ("E_SET", override)


def test_an_override_that_is_no_yaml_is_refused():
    assert refusal({}, ["model.widths=[8, 16"]).code == "E_YAML"


@pytest.mark.fault(46)
def test_merging_goes_key_by_key_and_leaves_its_arguments_alone():
    base, over = {"a": {"b": 1, "c": 2}, "d": {"e": 1}}, {"a": {"c": 3}, "d": 4, "f": {"g": 5}}
    assert merge(base, over) == {"a": {"b": 1, "c": 3}, "d": 4, "f": {"g": 5}}
    assert merge({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}
    assert base == {"a": {"b": 1, "c": 2}, "d": {"e": 1}}
    assert over == {"a": {"c": 3}, "d": 4, "f": {"g": 5}}


def test_an_empty_dictionary_clears_what_a_preset_said():
    preset = {"data": {"conditions": {"age": "continuous"}, "voxels": 5000}}
    config = build(preset, ["data.conditions={}"])
    assert (config.data.conditions, config.data.voxels) == ({}, 5000)


@pytest.mark.fault(46)
@pytest.mark.parametrize("section", [Config(), DataConfig(), ModelConfig(), TrainConfig()])
def test_settings_cannot_be_changed_once_built(section):
    name = next(iter(type(section).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section, name, getattr(section, name))


def test_preprocessing_refuses_what_the_data_section_refuses():
    good = {"spacing": (2.0, 2.0, 3.0), "shape": (16, 48, 32)}
    assert Preprocessing(**good).labels == ()
    for bad in (
        {"shape": (16, 48, 30)},
        {"spacing": (0.0, 1.0, 1.0)},
        {"percentiles": (99.5, 0.5)},
        {"window": (240.0, 240.0)},
        {"voxels": 5},
    ):
        with pytest.raises(ValidationError, match=next(iter(bad))):
            Preprocessing(**(good | bad))


def test_preprocessing_has_the_same_defaults_as_the_data_section():
    for name in ("intensity", "window"):
        assert Preprocessing.model_fields[name].default == DataConfig.model_fields[name].default
        hints = [typing.get_type_hints(s)[name] for s in (Preprocessing, DataConfig)]
        assert hints[0] == hints[1]


def test_a_file_is_read_as_the_dictionary_it_holds(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n  batch: 4\ndata: {shape: [16, 48, 32]}\nout: Übung\n", "utf-8")
    values = read_yaml(path)
    assert values == {"train": {"batch": 4}, "data": {"shape": [16, 48, 32]}, "out": "Übung"}
    assert build(values).data.shape == (16, 48, 32)


def test_the_resolved_configuration_survives_yaml(tmp_path):
    config = build({}, ["model.widths=[8, 16]", "data.voxels=9000"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert build(read_yaml(path)) == config


NO_MAPPINGS = {
    "empty": b"",
    "list": b"- 1\n- 2\n",
    "text": b"just words",
    "unclosed": b"a: [1",
    "two colons": b"a: b: c",
    "list as key": b"? [a]\n: 1",
    "no such date": b"a: 2024-13-45",
    "not utf-8": b"\xff\xfe\x00",
    "control character": b"a: \x07",
    "one key twice": b"a: 1\na: 2",
    "one key twice, further in": b"a: {b: 1, c: 3, b: 2}",
}


@pytest.mark.parametrize("text", NO_MAPPINGS.values(), ids=NO_MAPPINGS)
def test_a_file_that_is_no_mapping_is_refused_under_its_name(text, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert (caught.value.code, caught.value.where) == ("E_YAML", "broken.yaml")


def test_a_file_that_cannot_be_read_is_missing(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            read_yaml(path)
        assert caught.value.code == "E_MISSING"


@pytest.mark.fault(33)
@pytest.mark.parametrize("tag", ["object/apply:os.mkdir", "object/new:os.mkdir"])
def test_yaml_cannot_run_code(tag, tmp_path):
    proof = tmp_path / "proof"
    text = f"!!python/{tag} [{proof}]"
    assert refusal({}, [f"out={text}"]).code == "E_YAML"
    path = tmp_path / "config.yaml"
    path.write_text(f"out: {text}\n")
    with pytest.raises(ConfigError, match="E_YAML"):
        read_yaml(path)
    assert not proof.exists()
    yaml.unsafe_load(text)
    assert proof.exists(), "the tag would not have run code at all"


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.shape=[48, 48, 48]", "model.widths=[8, 8, 8, 8]", "model.stem_stages=2"], "32"),
        (["model.widths=[8, 8, 8, 8]", "model.stem_stages=2"], "set data.shape"),
        (["model.stem_blocks=1"], "needs model.stem_stages of 2"),
        (["train.batch=6", "train.micro_batch=4"], "does not divide"),
        (["train.task=restoration", "train.autoencode=0.5"], "needs train.task synthesis"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, words):
    error = refusal({}, overrides)
    assert (error.code, error.where) == ("E_VALUE", "the settings together")
    assert words in error.what


def test_as_many_halvings_as_the_shape_allows_are_accepted():
    config = build(
        {}, ["data.shape=[64, 96, 32]", "model.widths=[8, 8, 8, 8]", "model.stem_stages=2"]
    )
    assert config.model.downsamplings == 5
    assert build({}, ["model.widths=[8, 8, 8]", "model.stem_stages=2"]).model.downsamplings == 4

"""A spec is what can change a score: frozen, hashed, and the same from text, files and Python."""

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import yaml
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs import recipes as settings
from codecbench.benchmark.specs import registry as plugins
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.options import bitrates, named, seeds
from codecbench.benchmark.specs.plugin import find
from codecbench.benchmark.specs.spec import MAKE_INTERVALS, MAKE_SCORES, Spec, sources
from codecbench.benchmark.specs.training import Training
from codecbench.quantizers.nsvq import NSVQ

CORPUS = """
from codecbench.datamodules.base import DataError, Recordings

class Tiny(Recordings):
    location_options = frozenset({"root"})
    def __init__(self, root: str = "here", noise_db: float = 0):
        if noise_db > 90:
            raise DataError(f"noise_db={noise_db} deafens")
        self.root = root
    def items(self, split):
        return []
"""
QUANTIZER = """
from dataclasses import dataclass
from codecbench.quantizers.nsvq import NSVQ as Base

@dataclass(frozen=True)
class Shape:
    width: int = 3

class Mine(Base):
    def __init__(self, channels: int, depth: int, shape: Shape = Shape(), label: str = "a"):
        super().__init__(channels, 2.0)
        self.depth, self.shape, self.label = depth, shape, label
"""


@pytest.fixture(autouse=True)
def tiny_corpus(monkeypatch, tmp_path):
    monkeypatch.setattr(plugins, "_handed_in", {kind: {} for kind in plugins.BASES})
    for name, text in (("tiny.py", CORPUS), ("mine.py", QUANTIZER)):
        (tmp_path / name).write_text(text)
        plugins.add_file(tmp_path / name)


def specs(quantizer: Any = "nsvq", codec: Any = "frae", **options: Any):
    return make_specs(quantizer, codec, **{"data": "tiny", **options})


def spec(*names, **options):
    (only,) = specs(*names, **options)
    return only


def line_of(*names, **options):
    with pytest.raises(UserError) as caught:
        specs(*names, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- what a spec says -------------------------------------------------------------------------------------------------


def test_options_are_resolved_with_the_constructors_defaults():
    choice = spec(quantizer_options={"codebook_bits": "8"}).quantizer
    assert choice == find(
        "quantizer",
        "nsvq",
        {
            "codebook_bits": 8.0,
            "initialisation": "kmeans",
            "replacement": 0.1,
            "weights": None,
            "normalise_noise": True,
        },
    )


def test_a_nested_dataclass_is_a_dictionary_in_the_spec_and_itself_in_the_plugin():
    for options in ({"depth": 2, "shape.width": 5}, {"depth": 2, "shape": {"width": 5}}):
        choice = spec("mine", quantizer_options=options).quantizer
        assert choice.options == {"depth": 2, "shape": {"width": 5}, "label": "a"}
        built = choice.build(4)
        assert (built.channels, built.depth, built.shape.width) == (4, 2, 5)


def test_text_that_looks_like_a_number_stays_text_where_the_option_is_text():
    assert spec("mine:depth=1,label=07").quantizer.options["label"] == "07"


def test_a_preset_keeps_its_name_and_sets_its_options():
    aec = spec(codec="aec").codec
    assert aec.name == "aec" and aec.options["feedback"] == 0
    assert aec.build(lambda channels, share: NSVQ(channels)).feedback == 0


def test_the_corpus_of_a_spec_is_built_with_its_options():
    assert spec(data_options={"root": "there"}).data.build().root == "there"


def test_with_a_bitrate_the_quantizer_keeps_only_what_was_asked_for():
    assert spec(bitrate=2.4, quantizer_options={"replacement": 0}).quantizer.options == {"replacement": 0.0}


def test_a_spec_is_frozen():
    with pytest.raises(FrozenInstanceError):
        spec().seed = 1  # type: ignore[misc]


# -- the hash ---------------------------------------------------------------------------------------------------------


def test_the_name_tells_the_choices_and_ends_in_the_hash():
    one = spec(codec="frae-l5-h3-r4", bitrate=2.4, seed=3)
    assert one.name == f"frae-l5-h3-r4_nsvq_tiny_2.4kbps_s3_{one.hash}"
    assert len(one.hash) == 12 and int(one.hash, 16) >= 0
    assert spec().name == f"frae_nsvq_tiny_s0_{spec().hash}"


@pytest.mark.parametrize(
    "change",
    [
        {"quantizer_options": {"codebook_bits": 5}},
        {"codec_options": {"latent_dim": 4}},
        {"data_options": {"noise_db": 3}},
        {"training": {"steps": 7}},
        {"ace": {"gain_db": 30}},
        {"bitrate": 2.4},
        {"seed": 1},
        {"coder": "huffman"},
    ],
)
def test_whatever_can_change_a_score_changes_the_hash(change):
    assert spec(**change).hash != spec().hash


def test_the_version_covers_all_code_that_makes_scores_and_no_other():
    code = sources(MAKE_SCORES)
    makers = {"quantizers/nsvq.py", "quantizers/parts/vector.py", "codecs/files/container.py", "datamodules/base.py"}
    makers |= {"benchmark/runs/evaluation.py", "benchmark/metrics/quality.py", "benchmark/specs/options.py"}
    assert makers <= code.keys()
    idle = ("benchmark/cli/", "benchmark/speed/", "benchmark/studies/", "leaderboards/", "quantizers/checks/")
    assert not [name for name in code if name.startswith(idle) or "wandb" in name]
    assert {"leaderboards/statistics.py"} == sources(MAKE_INTERVALS).keys()


def test_fingerprint_plugins_and_version_change_the_hash():
    one = spec()
    changes = ({"data_fingerprint": "x"}, {"plugins": (("nsvq", "x"),)}, {"version": "99"})
    assert len({one.hash, *(replace(one, **change).hash for change in changes)}) == 4


def test_where_the_data_lie_and_how_a_number_is_written_do_not():
    assert spec(data_options={"root": "elsewhere"}).hash == spec().hash
    assert spec(quantizer_options={"codebook_bits": 6}).hash == spec(quantizer_options={"codebook_bits": "6.0"}).hash
    assert spec(data_options={"noise_db": 0.0}).hash == spec().hash  # its default is the integer 0


def test_a_record_is_not_told_where_the_data_lie():
    one = spec(data_options={"root": "/home/someone"})
    assert "someone" not in json.dumps(one.recorded()) and one.as_dict()["data"]["options"]["root"] == "/home/someone"


def test_the_sources_of_all_three_plugins_are_in_the_spec():
    assert [name for name, _ in spec(codec="aec").plugins] == ["nsvq", "aec", "tiny"]
    assert spec().plugins[0][1] == plugins.source_hash(NSVQ)


# -- there and back ---------------------------------------------------------------------------------------------------


def test_a_spec_survives_dictionary_and_yaml():
    one = spec("mine:depth=2", "aec", bitrate=2.4, seed=4, training={"steps": 9})
    assert Spec.from_dict(json.loads(json.dumps(one.as_dict()))) == one
    assert Spec.from_yaml(one.to_yaml()) == one


@pytest.mark.parametrize("text", ["quantizer: nsvq", "[1]", "a: [", "training: {stps: 3}"])
def test_text_that_is_no_spec_is_refused(text):
    with pytest.raises(UserError, match="not a spec"):
        Spec.from_yaml(text)


@pytest.mark.parametrize("bitrate", [None, 2.4])
def test_the_yaml_of_a_spec_is_a_config_that_gives_the_same_spec(tmp_path, bitrate):
    one = spec("nsvq:codebook_bits=5" if bitrate is None else "nsvq", "aec", bitrate=bitrate, seed=4, ace={"q": 19})
    (tmp_path / "run.yaml").write_text(one.to_yaml())
    assert make_specs(config=tmp_path / "run.yaml") == [one]


def test_arguments_go_before_the_config_and_the_config_before_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "RECIPES", tmp_path)
    (tmp_path / "brief.yaml").write_text("training: {steps: 1, batch_size: 1, crop_seconds: 1}\ncodec: aec\nseed: 1")
    (tmp_path / "run.yaml").write_text(
        "quantizer: {name: ste_vq, codebook_bits: 3}\ntraining: {batch_size: 2, steps: 2}"
    )
    one = spec(None, None, training={"steps": 3}, profile="brief", config=tmp_path / "run.yaml")
    assert (one.training.steps, one.training.batch_size, one.training.crop_seconds) == (3, 2, 1)
    assert (one.quantizer.name, one.quantizer.options["codebook_bits"]) == ("ste_vq", 3)
    assert (one.codec.name, one.seed) == ("aec", 1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("quantiser: nsvq", "no setting is called 'quantiser'; did you mean quantizer? There are: quantizer, codec"),
        ("- nsvq", "must hold settings like `quantizer: nsvq`"),
        ("a: [", "not YAML"),
        ("training: fast", "training must be settings, not 'fast'"),
        ("codec: 3", "codec must be a name or settings, not 3"),
    ],
)
def test_a_config_that_cannot_be_used_costs_one_line(tmp_path, text, line):
    (tmp_path / "run.yaml").write_text(text)
    assert line in line_of(config=tmp_path / "run.yaml")


def test_a_config_or_profile_that_is_not_there_is_named(tmp_path, monkeypatch):
    assert "absent.yaml: cannot be read (No such file or directory)" in line_of(config=tmp_path / "absent.yaml")
    monkeypatch.setattr(settings, "RECIPES", tmp_path)
    (tmp_path / "quick.yaml").write_text("")
    assert line_of(profile="quik") == "no profile is called 'quik'; did you mean quick? There are: quick"


# -- grids ------------------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination():
    grid = specs("nsvq:codebook_bits=8,ste_vq", "frae,aec", seed="0,1", bitrate=None)
    assert len(grid) == 8 == len({one.hash for one in grid})
    assert {one.quantizer.options["codebook_bits"] for one in grid if one.quantizer.name == "nsvq"} == {8}
    assert {one.quantizer.options["codebook_bits"] for one in grid if one.quantizer.name == "ste_vq"} == {6}


def test_bitrates_are_part_of_the_grid():
    assert [one.bitrate for one in specs(bitrate="2.4,4.8")] == [2.4, 4.8]


def test_a_shared_option_goes_to_all_and_ones_own_goes_before_it():
    both = specs("nsvq:codebook_bits=8,ste_vq", quantizer_options={"codebook_bits": 4})
    assert [one.quantizer.options["codebook_bits"] for one in both] == [8, 4]


def test_a_class_or_a_list_of_both_is_as_good_as_a_name():
    assert spec(NSVQ).hash == spec("nsvq").hash
    assert [one.quantizer.name for one in specs([NSVQ, "ste_vq"])] == ["nsvq", "ste_vq"]


def test_training_may_be_given_as_the_object_itself():
    given = Training(steps=12)
    assert spec(training=given).training == replace(given, losses={"band_selection": 0.1})  # None: the codec's own


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"quantizer_options": {"codebok_bits": 8}},
            "nsvq has no option 'codebok_bits'; did you mean codebook_bits? "
            "It has: codebook_bits, initialisation, replacement, weights",
        ),
        ({"quantizer": "identity:step=1"}, "identity has no option 'step'. It has none"),
        ({"quantizer": "mine"}, "mine needs an option: --quantizer.depth INT"),
        (
            {"quantizer": "nsvq,identity", "quantizer_options": {"codebook_bits": 8}},
            "identity has no option 'codebook_bits'. It has none. "
            "Write name:option=value for an option that not all have",
        ),
        ({"quantizer_options": {"codebook_bits": "x"}}, "nsvq: codebook_bits=x does not fit; it must be float"),
        ({"quantizer_options": {"codebook_bits": -4}}, "nsvq: codebook_bits=-4.0 must lie between 1 and 16"),
        (
            {"quantizer_options": {"initialisation": "zero"}},
            "nsvq: initialisation=zero does not fit; it must be one of ['kmeans', 'samples', 'noisy_samples', 'normal'",
        ),
        ({"quantizer_options": {"weights": [1, 2]}}, "nsvq: weights=[1.0, 2.0] must be 5 positive numbers, one per"),
        ({"quantizer": "mine:depth=1,shape.wdth=2"}, "mine: unrecognized arguments: --quantizer.shape.wdth=2"),
        ({"quantizer_options": {"weights": {1, 2}}}, "the option value {1, 2} cannot be written down"),
        ({"codec_options": {"latent_dim": 0}}, "frae: latent_dim=0"),
        (
            {"codec": "aec", "codec_options": {"feedback": 2}},
            "aec stands for feedback=0; to set feedback, write --codec",
        ),
        ({"training": {"stps": 1}}, "training has no option 'stps'; did you mean steps? It has: steps, batch_size"),
        ({"training": {"steps": 0}}, "training: steps=0 must be above 0"),
        ({"ace": {"maxima": 23}}, "ace: maxima=23 must be a whole number from 1 to 22"),
        ({"coder": "zip"}, "--coder zip is unknown; write range or huffman"),
        ({"quantizer": 3}, "quantizer=3 is neither a name nor a class"),
    ],
)
def test_what_cannot_be_costs_one_line_that_says_why(options, line):
    assert line_of(**options).startswith(line)


def test_an_error_of_the_data_keeps_its_class_and_words():
    from codecbench.datamodules.errors import DataError

    with pytest.raises(DataError, match=r"noise_db=91\.0 deafens"):
        specs(data_options={"noise_db": 91})


# -- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nsvq", [("nsvq", {})]),
        ("nsvq,fem", [("nsvq", {}), ("fem", {})]),
        ("nsvq:bits=8,fem", [("nsvq", {"bits": "8"}), ("fem", {})]),
        ("fem,nsvq:bits=8,decay=0.5,ste", [("fem", {}), ("nsvq", {"bits": "8", "decay": "0.5"}), ("ste", {})]),
        ("nsvq:weights=[1,2],bits=3", [("nsvq", {"weights": "[1,2]", "bits": "3"})]),
        ("folder:root=C:/a=b,demo", [("folder", {"root": "C:/a=b"}), ("demo", {})]),
    ],
)
def test_a_comma_before_an_option_goes_on_with_the_same_plugin(text, parts):
    assert [(name, options) for name, options in named(text)] == parts


@pytest.mark.parametrize("text", ["bits=8", "nsvq:bits", "nsvq:=8", "nsvq,,fem", ""])
def test_text_that_names_nothing_is_refused(text):
    with pytest.raises(UserError, match=repr(text).replace("[", r"\[")):
        named(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, [3]),
        ("0,1", [0, 1]),
        ("0:5", [0, 1, 2, 3, 4]),
        (["0:2", "7"], [0, 1, 7]),
        ([1, 1], [1]),
        ("2:4,9", [2, 3, 9]),
    ],
)
def test_seeds_leave_the_end_of_a_range_out(value, expected):
    assert seeds(value) == expected


@pytest.mark.parametrize("value", ["x", "-1", "5:5", "0:", "1.5", ""])
def test_what_is_no_seed_is_refused(value):
    with pytest.raises(UserError, match=f"^--seed {value} is "):
        seeds(value)


def test_bitrates_are_positive_numbers():
    assert bitrates(None) == [None] and bitrates(2.4) == [2.4] and bitrates(["2.4,5", "8"]) == [2.4, 5, 8]
    for value in ("x", "0", "-3", "inf", "nan"):
        with pytest.raises(UserError, match=f"^--bitrate {value} is no bitrate"):
            bitrates(value)


@pytest.mark.parametrize("name", settings.recipes())
def test_a_shipped_recipe_can_be_read_and_says_its_command_cost_and_score(name):
    assert make_specs(data="tiny", profile=name), yaml.safe_dump(settings.read_recipe(name))
    head = [line for line in settings.recipes()[name].read_text().splitlines() if line.startswith("#")]
    assert head[0].startswith("# benchmark ") and ("--profile" in head[0] or "gate" in head[0])
    assert any(line.startswith("# Cost: ") for line in head) and any("Expected" in line for line in head)


@pytest.mark.parametrize("name", [name for name in settings.recipes() if "-" in name])
def test_a_codecs_own_recipe_says_only_what_is_asked_of_it(name):
    """Quantizer, seed and the options of all but the training belong to those who run it."""
    said = settings.read_recipe(name)
    assert {*said} <= {"codec", "data", "bitrate", "coder", "options"}
    assert {part for part, options in said["options"].items() if options} <= {"training"}


@pytest.fixture
def sized(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "RECIPES", tmp_path)
    (tmp_path / "frae-quick.yaml").write_text("codec: aec\nbitrate: 3\ntraining: {steps: 7, batch_size: 5}")
    (tmp_path / "frae-long.yaml").write_text("training: {steps: 70}\ncoder: huffman")


def test_every_codec_has_a_recipe_of_its_own_for_a_profile(sized):
    (plain,) = make_specs(data="tiny")
    assert (plain.codec.name, plain.bitrate, plain.training.steps, plain.training.batch_size) == ("aec", 3, 7, 5)
    (quick,) = make_specs(data="tiny", profile="quick", training={"steps": 9})
    assert (quick.codec.name, quick.training.steps, quick.training.batch_size) == ("aec", 9, 5)
    (long,) = make_specs(data="tiny", profile="long")
    assert (long.codec.name, long.bitrate, long.training.steps, long.coder) == ("frae", None, 70, "huffman")
    (other,) = make_specs(data="tiny", profile="long", coder="range")
    assert (plain.coder, other.coder) == ("range", "range")
    assert line_of(profile="lng") == "no profile is called 'lng'; did you mean long? There are: " + ", ".join(
        ["frae-long", "frae-quick", "long", "quick"]
    )


def test_a_recipe_gives_way_to_what_was_asked_for(sized):
    (own,) = make_specs(data="tiny", codec_options={"latent_dim": 3})
    assert own.codec.name == "frae" and own.codec.options["latent_dim"] == 3 and own.codec.options["feedback"] == 0
    (named_preset,) = make_specs(data="tiny", codec="frae-l3-h2-r1")
    assert named_preset.codec.name == "frae-l3-h2-r1" and named_preset.training.steps == 7
    assert [spec.bitrate for spec in make_specs("nsvq,fem,identity,nsvq:codebook_bits=4", data="tiny")] == [
        3,
        3,
        None,
        None,
    ]
    assert {spec.bitrate for spec in make_specs("nsvq,fem", data="tiny", bitrate=5)} == {5}


def test_the_loss_of_patterns_has_its_weight_among_the_losses():
    assert spec(codec="frae").training.losses == {"band_selection": 0.1}
    assert spec(codec="frae", training={"losses.band_selection": 0.3}).training.losses == {"band_selection": 0.3}
    assert line_of(codec="frae", training={"losses.time": 1.0}) == (
        "training: no loss is called 'time'; there are: band_selection"
    )
    assert "between 0 and 1" in line_of(codec="frae", training={"losses": {"band_selection": 2.0}})

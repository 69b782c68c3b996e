"""A quantizer as an option of a quantizer: named, typed, recorded and built like any other."""

from pathlib import Path
from typing import Any

import pytest
from codecbench.benchmark.cli.run import options_help
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs import registry as plugins
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.plugin import Plugin
from codecbench.benchmark.specs.spec import Spec
from codecbench.benchmark.training.model import make_codec
from codecbench.quantizers.base import Nested
from codecbench.quantizers.checks.running import built
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.nsvq import NSVQ

WRAP = """
from codecbench.quantizers.base import Quantizer, Nested
from codecbench.quantizers.nsvq import NSVQ

class Wrap(Quantizer):
    def __init__(self, channels: int, gain: float = 1, stage: Nested = Nested(NSVQ, {"codebook_bits": 3.0})):
        super().__init__(channels)
        self.gain, self.inner = gain, stage(channels)
    alphabet = property(lambda self: self.inner.alphabet)
    def encode(self, latents, noise): return self.inner.encode(latents, noise)
    def decode(self, codes, noise): return self.inner.decode(codes, noise)
    def surrogate(self, latents, noise): return self.inner.surrogate(latents, noise)
    @classmethod
    def for_rate(cls, channels, bits, stage=Nested(NSVQ), **fixed):
        return {f"stage.{name}": value for name, value in stage.for_rate(channels, bits).items()}
"""


@pytest.fixture(autouse=True)
def wrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type:
    monkeypatch.setattr(plugins, "_handed_in", {kind: {} for kind in plugins.BASES})
    (tmp_path / "wrap.py").write_text(WRAP)
    plugins.add_file(tmp_path / "wrap.py")
    return plugins.lookup("quantizers", "wrap")[0]


def choice(quantizer: str = "wrap", **options: Any) -> Plugin:
    (spec,) = make_specs(quantizer, "frae", "demo", **options)
    return spec.quantizer


def test_the_stage_by_default_and_its_options() -> None:
    options = choice().options
    assert options["stage"] == "nsvq" and options["stage.codebook_bits"] == 3.0 and options["stage.replacement"] == 0.1
    assert choice().build(5).inner.size == 8


def test_another_stage_has_its_own_defaults_and_options() -> None:
    asked = choice(quantizer_options={"stage": "ema_vq", "stage.decay": "0.9"})
    inner = asked.build(5).inner
    assert isinstance(inner, EMAVQ) and inner.decay == 0.9 and inner.size == 64


@pytest.mark.parametrize(
    "options",
    [{"stage": {"name": "ema_vq", "decay": 0.9}}, {"stage": EMAVQ, "stage.decay": 0.9}],
    ids=["mapping", "class"],
)
def test_python_may_write_it_otherwise(options: dict[str, Any]) -> None:
    assert choice(quantizer_options=options) == choice("wrap:stage=ema_vq,stage.decay=0.9")


def test_a_stage_within_a_stage() -> None:
    options = {"stage": "wrap", "stage.stage": "ste_vq", "stage.stage.codebook_bits": 2.0}
    assert choice(quantizer_options=options).build(5).inner.inner.size == 4


def test_a_spec_of_it_survives_its_file() -> None:
    (spec,) = make_specs("wrap:stage=ema_vq", "frae", "demo")
    assert Spec.from_yaml(spec.to_yaml()) == spec
    assert [name for name, _ in spec.plugins] == ["wrap", "ema_vq", "frae", "demo"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("wrap:stage.decay=1", "wrap's stage nsvq has no option 'decay'"),
        ("wrap:stage=nsv", "did you mean nsvq"),
        ("wrap:stages=nsvq", "did you mean stage"),
        ("wrap:stage.codebook_bits=many", "codebook_bits=many does not fit"),
    ],
)
def test_a_mistake_is_told_in_one_line(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        choice(text)
    assert "\n" not in str(caught.value)


def test_a_bitrate_sets_the_stages_rate_and_refuses_a_second_one() -> None:
    (spec,) = make_specs("wrap:stage=ste_vq", "frae", "demo", bitrate=3.6)
    assert spec.quantizer.options == {"stage": "ste_vq"}
    assert make_codec(spec, 900.0).quantizers[0].alphabet == (16,)
    (twice,) = make_specs("wrap:stage.codebook_bits=4", "frae", "demo", bitrate=3.6)
    with pytest.raises(UserError, match=r"--quantizer\.stage\.codebook_bits both fix"):
        make_codec(twice, 900.0)


def test_help_says_how_to_set_it() -> None:
    assert "--quantizer.stage.OPTION" in options_help({"quantizer": "wrap"})


def test_options_of_for_rate_build_a_quantizer(wrap: Any) -> None:
    quantizer: Any = built(wrap, 5, {"gain": 2.0, "stage.codebook_bits": 2.0})
    assert isinstance(quantizer.inner, NSVQ) and quantizer.inner.size == 4 and quantizer.gain == 2.0
    assert Nested(EMAVQ, {"codebook_bits": 2.0})(3, decay=0.5).nominal_bits == 2.0

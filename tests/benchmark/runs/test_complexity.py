"""What codecs cost: published figures out of `benchmark ls codecs --complexity`, and streams before they are timed."""

import pytest
from codecbench.benchmark.cli.main import main
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.runs.complexity import complexity_of
from codecbench.benchmark.specs.registry import found, presets
from codecbench.codecs.none import Bare

PUBLISHED = {  # millions of parameters, MMAC/s
    "stft": (3.61, 343),  # these four: Brendel et al. 2024, Table II
    "stft-no-dpcrnn": (3.59, 343),
    "stft-no-skips": (3.33, 330),
    "stft-no-styling": (2.33, 216),
    "freqcodec": (0.52, 340),  # of the same paper, section V
    "resglu": (2.35, None),  # Byun et al. 2023
}


@pytest.mark.slow
def test_the_table_has_every_codec_and_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "codecs", "--complexity"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    cells = {line[0]: line[1:] for line in lines if len(line) == 6 and line[-1] in ("yes", "no")}
    assert set(cells) == {*found("codecs"), *presets("codecs")}
    for name, (millions, mmacs) in PUBLISHED.items():
        parameters, operations = (float(text.replace(",", "")) for text in cells[name][:2])
        assert parameters / 1e6 == pytest.approx(millions, rel=0.01), name
        assert mmacs is None or operations == pytest.approx(mmacs, rel=0.01), name
    assert cells["nac"][0] == "465,372" and cells["nac-2"][0] == "930,744"
    assert cells["stft"][2:] == ["50.00", "29.9", "yes"]
    assert cells["freqcodec"][2:] == ["50.00", "371.9", "no"]
    assert cells["none"] == ["0", "0.00", "1000.00", "0.0", "yes"]


def test_the_option_is_for_codecs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for what in ([], ["data"]):
        assert main(["ls", *what, "--complexity"]) == 2
        assert capsys.readouterr().err.strip() == "benchmark: --complexity is for benchmark ls codecs"


def test_a_codec_by_hand() -> None:
    """NAC's Table I with biases: a frame has 480 new samples, an output waits for 511, kernels have 9 taps."""
    cost = complexity_of("nac")
    encoder = 1_000 + 2 * 39_740 + 90_100 + 79_480 + 901
    decoder = 1_000 + 79_480 + 90_100 + 2 * 21_690 + 451
    assert cost.parameters == encoder + decoder == 465_372
    assert (cost.positions_per_second, cost.latency_s, cost.causal) == (16_000 / 480, 511 / 16_000, True)
    wide, narrow = (2 * (2 * channels * 20 + 20 * 20) for channels in (100, 50))  # two bottlenecks
    at_512 = 100 + wide + narrow + 50  # products of a sample before the downsampling and after the upsampling
    at_256 = 2 * 100 * 100 + wide + 100 + 100 + wide
    assert cost.macs_per_second == 9 * (512 * at_512 + 256 * at_256) * 16_000 / 480


def test_a_domain_without_data_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bare, "domain", "odour")
    with pytest.raises(UserError, match="no data for codecs of the domain 'odour' yet; there are: stimulation"):
        complexity_of("none")

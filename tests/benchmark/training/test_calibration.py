"""A bitrate is measured kbit/s: pilots find the bits per position that deliver it; an interruption loses nothing."""

import math
from pathlib import Path

import pytest
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.specs.grid import make_specs
from codecbench.benchmark.specs.spec import Spec
from codecbench.benchmark.specs.training import Training
from codecbench.benchmark.training.model import make_codec
from codecbench.benchmark.training.rate_search import (
    ACCEPTED,
    EXACT,
    PILOTS,
    PRECISE,
    TRAININGS,
    RateSearch,
    _codes,
    read_search,
    trim,
)
from codecbench.codecs.frae import FRAE
from codecbench.quantizers.identity import Identity
from codecbench.quantizers.nsvq import NSVQ

FULL = Training(steps=1000)


def searched(
    folder: Path, rate: float, law, stop: int | None = None, options=lambda bits: bits, training: Training = FULL
) -> list[tuple[float, int, float]]:
    """Follow a search in which `law` gives the measured rate of (bits, steps); cut off after `stop` trials."""
    folder.mkdir(exist_ok=True)
    search = RateSearch(folder, rate, rate, training, options)
    for made, (_, bits, chosen) in enumerate(search.trainings()):
        if made == stop:
            break
        search.note(bits, chosen, law(bits, chosen.steps), 1.0)
    return [tuple(trial[:3]) for trial in search.trials]


def test_one_correction_finds_a_rate_that_is_proportional(tmp_path: Path) -> None:
    trials = searched(tmp_path, 5.0, lambda bits, steps: 0.75 * bits)
    assert [steps for _, steps, _ in trials] == [250, 250, 1000]
    assert [bits for bits, _, _ in trials] == pytest.approx([5.0, 5.0 / 0.75, 5.0 / 0.75])


def test_the_slope_of_two_trials_corrects_the_third(tmp_path: Path) -> None:
    trials = searched(tmp_path, 5.0, lambda bits, steps: 0.2 * bits**1.7)
    assert trials[-1][1] == 1000 and trials[-1][2] == pytest.approx(5.0, rel=PRECISE)


def test_a_full_training_that_misses_is_repeated(tmp_path: Path) -> None:
    trials = searched(tmp_path, 5.0, lambda bits, steps: bits if steps == 250 else 0.9 * bits)
    assert [steps for _, steps, _ in trials] == [250, 1000, 1000]
    assert trials[-1][2] == pytest.approx(5.0, rel=ACCEPTED)


def test_what_cannot_be_reached_ends(tmp_path: Path) -> None:
    trials = searched(tmp_path, 5.0, lambda bits, steps: 2.0)
    assert [steps for _, steps, _ in trials[:6]] == [250] * PILOTS + [1000] * TRAININGS


def test_the_nearest_full_training_is_the_one_kept(tmp_path: Path) -> None:
    rates = iter([5.0, 5.2, 4.5, 4.0])
    trials = searched(tmp_path, 5.0, lambda bits, steps: next(rates, 5.2))
    assert [steps for _, steps, _ in trials] == [250, 1000, 1000, 1000, 1000]
    assert trials[-1] == trials[1]  # made again from its checkpoint, and the one that is loaded


def test_steps_of_rate_are_not_trained_twice(tmp_path: Path) -> None:
    trials = searched(tmp_path, 5.0, lambda bits, steps: 0.9 * round(bits), options=round)
    assert [(round(bits), steps) for bits, steps, _ in trials] == [(5, 250), (6, 250), (5, 1000), (6, 1000)]


def test_beyond_the_last_rate_the_last_one_is_taken(tmp_path: Path) -> None:
    trials = searched(tmp_path, 15.0, lambda bits, steps: 0.7 * bits, options=lambda b: b if b <= 16 else None)
    assert [(bits, steps) for bits, steps, _ in trials] == [(15.0, 250), (15.0, 1000)]


def test_a_short_run_has_no_pilots(tmp_path: Path) -> None:
    trials = searched(tmp_path, 5.0, lambda bits, steps: bits, training=Training(steps=60, validate_every=25))
    assert trials == [(5.0, 60, 5.0)]


def test_a_method_that_steers_its_rate_has_no_pilots(tmp_path: Path) -> None:
    search = RateSearch(tmp_path, 5.0, 5.0, FULL, lambda bits: bits, steered=True)
    steps = []
    for _, bits, training in search.trainings():
        steps.append(training.steps)
        search.note(bits, training, 5.1, 1.0, widened=-0.1)
    assert steps == [1000]
    assert read_search(tmp_path)[0].widened == -0.1


class Stepped(Identity):
    """Its rate falls with the width of its steps by a law of its own."""

    rate_is_learned = True
    width = 0.0

    def coarsen(self, amount: float) -> None:
        self.width += amount


def trimmed(rate, wanted: float, learned: bool = True) -> tuple[float, float, float]:
    """The rate and the widening that trim() returns, and the width that the quantizer is left with."""
    codec = FRAE(lambda channels, share: Stepped(channels) if learned else Identity(channels))
    (quantizer,) = codec.quantizers
    reached, widened = trim(codec, wanted, lambda: rate(getattr(quantizer, "width", 0.0)))
    return reached, widened, getattr(quantizer, "width", 0.0)


@pytest.mark.parametrize("start", [4.3, 4.9, 5.0, 5.1, 5.9])
def test_trained_steps_are_widened_until_the_rate_is_met(start: float) -> None:
    for rate in (lambda width: start - 6 * width, lambda width: start * math.exp(-1.2 * width - width**2)):
        reached, widened, width = trimmed(rate, 5.0)
        assert reached == pytest.approx(5.0, rel=EXACT)
        assert widened == pytest.approx(width, abs=1e-12) and rate(width) == pytest.approx(reached)


def test_the_nearest_rate_is_kept_where_widening_does_not_meet_it() -> None:
    reached, widened, width = trimmed(lambda width: 5.5 - abs(width - 0.05), 5.0)
    assert reached == pytest.approx(5.5 - abs(width - 0.05)) and widened == pytest.approx(width)
    assert trimmed(lambda width: 5.5, 5.0) == (5.5, 0.0, 0.0)


def test_a_rate_far_off_or_fixed_is_not_trimmed() -> None:
    assert trimmed(lambda width: 6.5 - width, 5.0) == (6.5, 0.0, 0.0)
    assert trimmed(lambda width: 5.2, 5.0, learned=False) == (5.2, 0.0, 0.0)


def test_padding_changes_no_code_of_a_causal_codec() -> None:
    torch.manual_seed(0)
    codec = FRAE(lambda channels, share: NSVQ(channels)).eval()
    signals = [torch.rand(22, frames) for frames in (3, 50, 20)]
    for codes, signal in zip(_codes(codec, signals), signals, strict=True):
        assert torch.equal(codes, codec.encode(signal[None]))


def test_a_damaged_search_is_told_in_one_line(tmp_path: Path) -> None:
    for text in ("[{", '[{"bits": 1}]', "7"):
        (tmp_path / "rate.json").write_text(text)
        with pytest.raises(UserError, match="--force"):
            read_search(tmp_path)


def test_an_interrupted_search_makes_the_same_trials(tmp_path: Path) -> None:
    def law(bits: float, steps: int) -> float:
        return 0.7 * bits**1.1

    whole = searched(tmp_path / "whole", 5.0, law)
    for stop in range(len(whole)):
        folder = tmp_path / str(stop)
        searched(folder, 5.0, law, stop)
        assert searched(folder, 5.0, law) == whole


def test_a_finished_search_hands_out_its_last_training_again(tmp_path: Path) -> None:
    whole = searched(tmp_path, 5.0, lambda bits, steps: bits)
    again = list(RateSearch(tmp_path, 5.0, 5.0, FULL, lambda bits: bits).trainings())
    assert [(number, bits) for number, bits, _ in again] == [(len(whole) - 1, whole[-1][0])]
    assert searched(tmp_path, 5.0, lambda bits, steps: bits) == whole


def test_no_search_was_made_without_a_bitrate(tmp_path: Path) -> None:
    assert read_search(tmp_path) == []


def spec(quantizer: str, **options) -> Spec:
    (only,) = make_specs(quantizer, "frae", "demo", **options)
    return only


def test_the_bits_of_a_trial_take_the_place_of_the_bitrates() -> None:
    asked = spec("nsvq", bitrate=4.5)
    assert make_codec(asked, 900.0).alphabet == (2**5,)
    assert make_codec(asked, 900.0, 6.0).alphabet == (2**6,)


def test_a_rate_that_no_configuration_comes_near_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"--bitrate asks nsvq for 44.44 bit per position: .*nearest: 16"):
        make_codec(spec("nsvq", bitrate=40), 900.0)


def test_the_methods_own_steps_of_rate_are_taken_where_they_are_near() -> None:
    codec = make_codec(spec("lfq", bitrate=5.0), 900.0)  # 5.56 bit a frame, in whole bits
    assert codec.quantizers[0].nominal_bits in (5.0, 6.0)


@pytest.mark.parametrize(
    ("quantizer", "rate", "option"),
    [
        ("nsvq:codebook_bits=6", 5.0, "codebook_bits"),
        ("lfq:dims=6", 5.4, "dims"),
        ("noise_sq:levels=[4,4,4]", 5.4, "levels"),
        ("noise_sq:levels=4,dims=3", 5.4, "levels"),
        ("residual:stages=4,stage.codebook_bits=4", 14.4, "stage"),
        ("fem:target_bits=3", 5.0, "target_bits"),
        ("fem:rate_weight=0.1", 5.0, "rate_weight"),
        ("residual:stage=fem,stage.target_bits=3", 5.0, "target_bits"),
    ],
)
def test_options_that_fix_the_rate_are_refused_beside_a_bitrate(quantizer: str, rate: float, option: str) -> None:
    with pytest.raises(UserError, match=f"--bitrate and .*{option}.* both fix the rate"):
        make_codec(spec(quantizer, bitrate=rate), 900.0)


@pytest.mark.parametrize(
    ("quantizer", "rate"),
    [("nsvq", 18.0), ("kmeans_vq", 0.2), ("lfq", 0.7), ("lfq:dims=6", 6.8), ("identity", 5.0)],
)
def test_rates_beyond_the_ends_of_a_method_are_refused(quantizer: str, rate: float) -> None:
    with pytest.raises(UserError, match=r"--bitrate asks .* bit per position: "):
        make_codec(spec(quantizer, bitrate=rate), 900.0)


def test_a_method_that_learns_its_rate_gets_the_codecs_default() -> None:
    assert spec("fem").bitrate == 5.0
    assert spec("residual:stage=fem").bitrate == 5.0
    assert spec("fem:rate_weight=0.1").bitrate is None
    assert spec("fem:target_bits=4").bitrate is None
    assert spec("nsvq").bitrate is None
    assert Spec.from_yaml(spec("fem").to_yaml()) == spec("fem")


def test_the_table_of_trials_is_readable_text(tmp_path: Path) -> None:
    searched(tmp_path, 5.0, lambda bits, steps: bits)
    assert '"kbps": 5.0' in (tmp_path / "rate.json").read_text()

"""Sound to a bitstream and back: every rate, length and mistake."""

import pytest
import torch
from codecbench.benchmark.tracks import CochlearFrontEnd
from codecbench.datamodules.cochlear.ace import AceConfig, ace


@pytest.mark.parametrize("hop", [1, 17, 18, 128])
def test_the_header_s_length_gives_the_number_of_frames(hop: int) -> None:
    front_end = CochlearFrontEnd(AceConfig(hop=hop))
    for samples in (*range(1, 40), 127, 128, 129, 1000):
        assert front_end.signal_length(samples) == ace(torch.zeros(1, samples), AceConfig(hop=hop)).shape[2]


def test_lengths_at_other_rates_are_integers_rounded_up() -> None:
    front_end = CochlearFrontEnd(AceConfig(hop=18))
    assert front_end.resampled_length(44_101, 44_100) == 16_001  # 16000.36
    assert front_end.resampled_length(2**28 - 1, 44_100) == -(-(2**28 - 1) * 160 // 441)
    assert front_end.signal_length(44_101, 44_100) == 889  # 16001 / 18 = 888.9
    assert front_end.signal_length(0, 44_100) == 0

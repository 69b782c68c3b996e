"""Training losses, each with its paper's equation numbers.

LOSSES names those of waveforms: each makes, for a sample rate in Hz, a module of the clean and the decoded "B N".
The loss of stimulation patterns is one; its weight in PATTERN_LOSSES is alpha, the share of the bands not selected.
"""

from collections.abc import Callable, Mapping

from torch import nn

from .psychoacoustic import LogNoiseToMask, NoiseModulation, PriorityWeighting
from .spectral import CompressedSTFTLoss, MelLoss, MultiResolutionSTFT, RelativeTimeLoss, TimeLoss

PATTERN_LOSSES = ("band_selection",)
LOSSES: dict[str, Callable[[int], nn.Module]] = {
    "time": lambda sample_rate: TimeLoss(),
    "relative_time": lambda sample_rate: RelativeTimeLoss(),
    "mel": MelLoss,
    "stft": lambda sample_rate: MultiResolutionSTFT(),
    "complex_stft": lambda sample_rate: MultiResolutionSTFT(phase=True, logarithmic=0.1),
    "compressed_stft": lambda sample_rate: CompressedSTFTLoss(),
    "priority_weighting": PriorityWeighting,
    "noise_modulation": NoiseModulation,
    "global_noise_to_mask": LogNoiseToMask,
    "local_noise_to_mask": lambda sample_rate: LogNoiseToMask(sample_rate, frame=128, hop=64),
}


def check_losses(losses: Mapping[str, float], domain: str) -> None:
    """ValueError where a codec's domain has no such loss, none is left, or a weight is out of range."""
    known = PATTERN_LOSSES if domain == "stimulation" else tuple(LOSSES)
    unknown = [name for name in losses if name not in known]
    if unknown:
        raise ValueError(f"no loss is called {unknown[0]!r}; there are: {', '.join(known)}")
    if domain == "stimulation" and not all(0 <= weight <= 1 for weight in losses.values()):
        raise ValueError(f"losses={losses}: band_selection is a share, between 0 and 1")
    if domain != "stimulation" and not (losses and all(0 < weight < float("inf") for weight in losses.values())):
        raise ValueError(f"losses={losses} must name at least one loss, with a positive weight each")

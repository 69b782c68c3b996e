"""Training losses, each with its paper's equation numbers.

LOSSES names those of waveforms: each makes, for a sample rate in Hz, a module of the clean and the decoded "B N".
"""

from collections.abc import Callable

from torch import nn

from .psychoacoustic import LogNoiseToMask, NoiseModulation, PriorityWeighting
from .spectral import CompressedSTFTLoss, MelLoss, MultiResolutionSTFT, RelativeTimeLoss, TimeLoss

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

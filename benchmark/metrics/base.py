"""What is known of every metric without computing it: the headings of tables and the direction of comparisons."""

from typing import NamedTuple

RESAMPLER = "soxr HQ"  # for the record: what brings audio to the sample rate of a metric


class Metric(NamedTuple):
    """A score of one item."""

    name: str  # in records and options
    unit: str  # empty: a dimensionless number
    higher_is_better: bool
    sample_rate: int | None  # Hz of the audio it is handed; None: any rate, or no audio at all
    title: str  # in tables


_METRICS = (
    Metric("vstoi", "", True, 16_000, "VSTOI"),
    Metric("vstoi_uncoded", "", True, 16_000, "VSTOI of the uncoded pattern"),
    Metric("dvstoi", "", True, 16_000, "VSTOI minus uncoded"),
    Metric("vestoi", "", True, 16_000, "VESTOI"),
    Metric("stoi", "", True, 16_000, "STOI"),
    Metric("estoi", "", True, 16_000, "ESTOI"),
    Metric("pesq_wb", "MOS-LQO", True, 16_000, "PESQ-WB"),
    Metric("visqol", "MOS-LQO", True, 16_000, "ViSQOL"),
    Metric("visqol_audio", "MOS-LQO", True, 48_000, "ViSQOL, audio mode"),
    Metric("two_f", "MMS", True, 48_000, "2f-model"),
    Metric("nomad", "", False, 16_000, "NOMAD"),
    Metric("nmr", "dB", False, None, "Noise-to-mask ratio"),
    Metric("snr", "dB", True, None, "SNR"),
    Metric("si_sdr", "dB", True, None, "SI-SDR"),
    Metric("segmental_snr", "dB", True, 16_000, "Segmental SNR"),
    Metric("peak_snr", "dB", True, None, "Peak SNR of a waveform"),
    Metric("weighted_snr", "dB", True, 16_000, "Perceptually weighted SNR"),
    Metric("log_spectral_distance", "dB", False, 16_000, "Log-spectral distance"),
    Metric("mel_distance", "", False, 16_000, "Mel distance"),
    Metric("mel_cepstral_distortion", "dB", False, 16_000, "Mel-cepstral distortion"),
    Metric("band_selection_error", "", False, None, "Band selection error"),
    Metric("pattern_rmse", "", False, None, "Pattern RMSE"),
    Metric("active_bands", "bands", False, None, "Stimulated bands per frame"),
    Metric("active_bands_uncoded", "bands", False, None, "Stimulated bands per frame, uncoded"),
    Metric("ssim", "", True, None, "SSIM"),
    Metric("psnr", "dB", True, None, "Peak SNR of an image"),
    Metric("mse", "", False, None, "Mean squared error of a vector's numbers"),
)
METRICS = {metric.name: metric for metric in _METRICS}

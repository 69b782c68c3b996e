"""What is known of every metric without computing it: the headings of tables and the direction of comparisons."""

from typing import NamedTuple


class Metric(NamedTuple):
    """A score of one item."""

    name: str  # in records and options
    unit: str  # empty: a dimensionless number
    higher_is_better: bool
    sample_rate: int | None  # Hz of the audio it is handed; None: it is handed no audio
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
    Metric("band_selection_error", "", False, None, "Band selection error"),
    Metric("pattern_rmse", "", False, None, "Pattern RMSE"),
    Metric("active_bands", "bands", False, None, "Stimulated bands per frame"),
    Metric("active_bands_uncoded", "bands", False, None, "Stimulated bands per frame, uncoded"),
)
METRICS = {metric.name: metric for metric in _METRICS}

"""Methods are compared at one measured rate: between neighbours, by the logarithm of the rate, and never beyond."""

import pytest
from codecbench.leaderboards.errors import RecordError
from codecbench.leaderboards.matching import at_rate
from codecbench.leaderboards.records import Record, Score
from codecbench.leaderboards.rows import Row, rows
from codecbench.leaderboards.tables import markdown_table, terminal_table


def a_record(quantizer: str, asked: float, measured: float, vstoi: float, seed: int = 0) -> Record:
    return Record(
        spec={
            "quantizer": {"name": quantizer, "options": {}},
            "codec": {"name": "frae", "options": {}},
            "data": {"name": "librispeech", "options": {}},
            "bitrate": asked,
            "seed": seed,
        },
        hash=f"{quantizer}{asked}{seed}",
        name=f"frae_{quantizer}_{asked}_s{seed}",
        track="cochlear",
        scores={"vstoi": Score(vstoi, vstoi - 0.02, vstoi + 0.01, 60, 0, "", True)},
        rate_kbps={"nominal": 1.2 * asked, "entropy": measured, "measured": measured},
    )


POINTS = [
    a_record("nsvq", 2, 2.0, 0.60),
    a_record("nsvq", 8, 8.0, 0.80),
    a_record("fem", 4, 4.02, 0.75),
    a_record("ste_vq", 2, 2.0, 0.50),
    a_record("ste_vq", 3, 3.0, 0.55),
]


def matched(kbps: float) -> tuple[dict[str, Row], list[str]]:
    found, lacking = at_rate(rows(POINTS), kbps)
    return {row.quantizer.partition(" ")[0]: row for row in found}, lacking


def test_half_way_in_logarithms_is_half_way_in_score() -> None:
    row = matched(4.0)[0]["nsvq"]
    assert row.scores["vstoi"][:3] == pytest.approx((0.70, 0.68, 0.71))
    assert row.rate_kbps["measured"] == 4.0
    assert row.marks == ("interpolated from 2.00 and 8.00 kbit/s",)


def test_a_point_at_the_rate_stands_for_itself() -> None:
    row = matched(4.0)[0]["fem"]
    assert row.scores["vstoi"].mean == 0.75 and row.rate_kbps["measured"] == 4.02 and row.marks == ()


def test_nothing_is_extrapolated() -> None:
    found, lacking = matched(4.0)
    assert "ste_vq" not in found
    assert lacking == ["ste_vq with frae is left out: measured at 2.00, 3.00 kbit/s, which does not enclose 4"]


@pytest.mark.parametrize("kbps", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_bitrate_is_refused(kbps: float) -> None:
    with pytest.raises(RecordError, match="no bitrate"):
        at_rate(rows(POINTS), kbps)


def test_the_best_comes_first() -> None:
    assert [row.quantizer for row in at_rate(rows(POINTS), 4.0)[0]] == ["fem", "nsvq"]


def test_the_leaderboard_at_a_rate_says_so() -> None:
    text = markdown_table(POINTS, 4.0)
    assert "60 items · at 4 kbit/s" in text and "left out" in text and "docs/protocol.md" in text
    assert "0.700 [0.680, 0.710]" in text
    assert terminal_table(POINTS, 4.0).row_count > 1


def test_no_method_at_the_rate_is_said_too() -> None:
    text = markdown_table(POINTS, 20.0)
    assert "no method is measured on both sides" in text and text.count("left out") == 3
    assert terminal_table(POINTS, 20.0).row_count > 0

"""Heads and rooms: the sphere against published values, measured heads from files, reverberation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from codecbench.datamodules.base import active_level
from codecbench.datamodules.cochlear.head import RADIUS, SOUND, Head, SphericalHead, sphere_response, wrapped
from codecbench.datamodules.cochlear.kayser import KayserHead
from codecbench.datamodules.cochlear.room import ROOMS, SIDES, _image_trains, reverberation_time, room_response
from codecbench.datamodules.cochlear.sofa import SofaHead
from codecbench.datamodules.errors import DataError
from codecbench.datamodules.scenes import Scenes

h5py = pytest.importorskip("h5py")
FREQUENCIES = np.array([100.0, 500, 1000, 2000, 4000, 8000])


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


def decibels(response: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.abs(response))


def energy(response: np.ndarray) -> float:
    return float(10 * np.log10(np.square(response).sum()))


def lag(first: np.ndarray, second: np.ndarray) -> float:
    """Seconds by which the second response comes later, to 1/64 sample."""
    size = 1 << (2 * max(len(first), len(second))).bit_length()
    product = np.conj(np.fft.rfft(first, size)) * np.fft.rfft(second, size)
    place = int(np.argmax(np.fft.irfft(product, 64 * size)))
    return (place if place < 32 * size else place - 64 * size) / 64 / 16_000


# -- the sphere -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "angle", "expected"),
    [  # by the recursion of Duda & Martens, appendix A, which needs no Hankel function
        (0.8, 0, [1.51, 3.33, 4.79, 6.10, 6.67, 6.91]),
        (0.8, 90, [-0.13, -0.56, 0.58, 1.04, 1.48, 1.56]),
        (0.8, 150, [-1.21, -1.22, -2.04, -6.56, -5.78, -8.89]),
        (0.8, 180, [-1.36, -0.96, -0.49, -0.20, -0.57, -1.97]),
        (100 * RADIUS, 0, [0.15, 2.31, 3.83, 5.22, 5.78, 6.01]),
        (100 * RADIUS, 90, [-0.05, -0.41, 0.95, 1.52, 2.11, 2.38]),
        (100 * RADIUS, 180, [-0.11, 0.28, 0.76, 1.10, 0.86, -0.33]),
    ],
)
def test_the_sphere_has_the_known_magnitudes(distance: float, angle: float, expected: list[float]) -> None:
    assert decibels(sphere_response(FREQUENCIES, angle, distance)) == pytest.approx(expected, abs=0.0101)


def test_the_lowest_frequencies_beside_the_sphere_by_hand() -> None:
    """mu -> 0: sum (2m+1)/(m+1) P_m rho^-m, which at rho = 2 in front is 4 - 2 ln 2."""
    near = sphere_response(np.array([5.0]), 0, 2 * RADIUS)
    assert abs(near[0]) == pytest.approx(4 - 2 * np.log(2), rel=1e-3)


@pytest.mark.parametrize("azimuth", [15, 30, 45, 60, 75, 90])
def test_low_frequencies_are_as_late_as_kuhn_says(azimuth: float) -> None:
    near, far = (sphere_response(np.array([100.0]), 90 + side * azimuth, 100 * RADIUS)[0] for side in (-1, 1))
    later = np.angle(near / far) / (2 * np.pi * 100)
    assert later == pytest.approx(3 * RADIUS / SOUND * np.sin(np.radians(azimuth)), rel=0.02)


@pytest.mark.parametrize(("azimuth", "itd", "ild"), [(-90, 672, 9.9), (-45, 422, 10.3), (0, 0, 0), (30, -285, -7.8)])
def test_negative_azimuths_are_on_the_left(azimuth: float, itd: float, ild: float) -> None:
    """us, and dB over the whole band to 8 kHz, of which the response fades out the last 500 Hz."""
    left, right = (SphericalHead().response(side) for side in (azimuth, -azimuth))
    assert 1e6 * lag(left, right) == pytest.approx(itd, abs=5)
    assert energy(left) - energy(right) == pytest.approx(ild, abs=0.25)


@pytest.mark.parametrize("azimuth", [15, 30, 45, 60, 75, 90])
def test_delays_lie_between_those_of_woodworth_and_kuhn(azimuth: float) -> None:
    """Of high and of low frequencies; ears at 100 degrees are further apart on one side than Woodworth's at 90."""
    angle = np.radians(azimuth)
    measured = lag(SphericalHead().response(-azimuth), SphericalHead().response(azimuth))
    slow, fast = 3 * RADIUS / SOUND * np.sin(angle), RADIUS / SOUND * (angle + np.sin(angle))
    assert 0.97 * fast < measured < slow


def test_the_response_starts_where_it_says() -> None:
    for azimuth in range(-180, 181, 15):
        response = SphericalHead().response(azimuth)
        assert response.shape == (256,)
        assert energy(response[:40]) < energy(response) - 30 and energy(response[200:]) < energy(response) - 60
    assert SphericalHead().response(-180) is SphericalHead().response(180)
    assert [wrapped(azimuth) for azimuth in (-180, 180, 190, -350, 0)] == [180, 180, -170, 10, 0]


# -- rooms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_reverberate_as_long_as_they_say(name: str) -> None:
    room = ROOMS[name]
    for azimuth in (-75, 30):
        response = room_response(SphericalHead(), room, azimuth)
        assert reverberation_time(response) == pytest.approx(room.rt60, rel=0.1)
        direct = SphericalHead().response(azimuth)
        rest = response - np.pad(direct, (0, len(response) - len(direct)))
        assert -10 < energy(direct) - energy(rest) < 15, "direct to reverberant"


def test_the_schroeder_integral_of_an_exact_decay() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000)
    assert reverberation_time(noise * 10 ** (-3 * np.arange(16_000) / 16_000 / 0.4)) == pytest.approx(0.4, rel=0.02)


def test_the_floor_reflects_where_it_must() -> None:
    """The source is 0.8 m away, both are 1.25 m high: the image is sqrt(0.8^2 + 2.5^2) = 2.625 m away, below it."""
    room = ROOMS["Office"]._replace(facing=0.0)
    trains = _image_trains(room, 30, 4800)
    train = trains[SIDES.index(30)]
    delay = round((2.625 - 0.8) / 343 * 16_000)
    near = train[delay - 4 : delay + 5]
    assert near[near != 0] == pytest.approx([-0.826 * 0.8 / 2.625], rel=1e-3)
    assert not trains[:, : delay - 4].any(), "nothing else is nearer"


def test_sound_from_the_left_is_louder_in_rooms_too() -> None:
    for room in ROOMS.values():
        left, right = (room_response(SphericalHead(), room, azimuth) for azimuth in (-90, 90))
        assert energy(left) > energy(right) + 3 and lag(left, right) > 5e-4


# -- SOFA -------------------------------------------------------------------------------------------------------------


def sofa(path: Path, turned: bool = False, **changes: Any) -> Path:
    """A measured head of 12 directions at 48 kHz: the spherical one, as SOFA counts."""
    azimuths = np.arange(0.0, 360, 30)
    ears = [[SphericalHead().response(sign * azimuth) for sign in (-1, 1)] for azimuth in azimuths]
    positions = np.stack([360 - azimuths if turned else azimuths, 0 * azimuths, 0 * azimuths + 1], axis=1)
    data = {"Data.IR": np.array(ears), "Data.SamplingRate": [48_000.0], "Data.Delay": [[0.0, 0.0]],
            "SourcePosition": positions, "ListenerView": [[1.0, 0, 0]]} | changes.pop("data", {})  # fmt: skip
    about = {"SOFAConventions": "SimpleFreeFieldHRIR", "DataType": "FIR"} | changes.pop("about", {})
    units = {"Data.SamplingRate": "hertz", "SourcePosition": "degree, degree, metre"} | changes.pop("units", {})
    with h5py.File(path, "w") as file:
        for name, values in data.items():
            if values is not None:
                file[name] = values
        for name, text in about.items():
            file.attrs[name] = np.bytes_(text)
        for name, text in units.items():
            file[name].attrs["Units"] = np.bytes_(text)
        file["SourcePosition"].attrs["Type"] = np.bytes_(changes.get("kind", "spherical"))
    return path


def test_every_real_file_hears_the_left_from_the_left(hrtf_root: Path) -> None:
    paths = sorted(hrtf_root.rglob("*.sofa"))
    assert paths
    for path in paths:
        head = SofaHead(path)
        left, front, right = (head.response(azimuth) for azimuth in (-90, 0, 90))
        assert energy(left) > energy(right) + 5, path
        if "Room" not in path.name:  # where a wall in front adds to the sound
            assert energy(left) > energy(front) > energy(right), path
            assert 5e-4 < lag(left, right) < 9.5e-4, path


def test_the_same_head_at_two_rates_is_the_same(hrtf_root: Path) -> None:
    low, high = (hrtf_root / f"iosr_realroombrirs/UniS_Anechoic_BRIR_{rate}k.sofa" for rate in (16, 48))
    if not (low.is_file() and high.is_file()):
        pytest.skip("the two files of the University of Surrey are not at hand")
    for azimuth in (-60, 25):
        first, second = SofaHead(low).response(azimuth), SofaHead(high).response(azimuth)
        assert lag(first, second) == pytest.approx(0, abs=2e-5)
        at = np.arange(300, 4000, 100) / 16_000 * 1024
        spectra = [decibels(np.fft.rfft(response, 1024))[at.astype(int)] for response in (first, second)]
        assert np.ptp(spectra[1] - spectra[0]) < 1.5, "the same but for a gain"


@pytest.mark.parametrize("turned", [False, True])
def test_azimuths_that_run_the_wrong_way_are_turned_round(
    turned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = SofaHead(sofa(tmp_path / "head.sofa", turned))
    for azimuth, expected in ((-90, -90), (-60, -60), (57, 60), (99, 90)):
        response = head.response(azimuth) * 16_000 / 48_000
        wanted = SphericalHead().response(expected)[::3]  # made for 16 kHz, said to be at 48 kHz
        assert lag(np.pad(wanted, (16, 0)), response) == pytest.approx(0, abs=4e-5)
    assert ("clockwise" in caplog.text) == turned


def test_delays_and_cartesian_places_are_understood(tmp_path: Path) -> None:
    plain = SofaHead(sofa(tmp_path / "plain.sofa")).response(-30)
    late = SofaHead(sofa(tmp_path / "late.sofa", data={"Data.Delay": [[48.0, 48.0]]})).response(-30)
    assert np.allclose(late[16 : 16 + len(plain)], plain, atol=2e-3)
    angles = np.radians(np.arange(0, 360, 30))
    places = 2 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    head = SofaHead(sofa(tmp_path / "xyz.sofa", data={"SourcePosition": places}, units={"SourcePosition": "metre"},
                         kind="cartesian"))  # fmt: skip
    assert np.array_equal(head.response(-30), plain)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": {"SOFAConventions": "GeneralFIR"}}, "its convention is GeneralFIR (FIR), not SimpleFreeFieldHRIR"),
        ({"about": {"DataType": "TF"}}, "(TF)"),
        ({"data": {"Data.IR": np.ones((12, 1, 8))}}, "shape (12, 1, 8); a left and a right ear are needed"),
        ({"data": {"Data.IR": np.zeros((12, 2, 8))}}, "silent responses"),
        ({"data": {"Data.IR": np.full((12, 2, 8), np.nan)}}, "NaN"),
        ({"data": {"Data.IR": None}}, "no complete SOFA file"),
        ({"data": {"Data.SamplingRate": [48.0]}}, "its sampling rate is [48.] hertz"),
        ({"units": {"Data.SamplingRate": "kilohertz"}}, "[48000.] kilohertz; one rate in hertz is needed"),
        ({"units": {"SourcePosition": "radian, radian, metre"}}, "degrees are needed"),
        ({"data": {"SourcePosition": np.zeros((3, 3))}}, "SourcePosition has the shape (3, 3)"),
        ({"data": {"ListenerView": [[0.0, 1, 0]]}}, "its listener looks towards [0.0, 1.0, 0.0]"),
        ({"data": {"ListenerView": [[np.nan, 0, 0]]}}, "its listener looks towards [nan"),
        ({"data": {"SourcePosition": np.full((12, 3), np.nan)}}, "SourcePosition holds NaN"),
        ({"data": {"SourcePosition": np.zeros((12, 3))}, "kind": "cartesian"}, "the place of the head itself"),
        ({"data": {"Data.Delay": [[-1.0, 0.0]]}}, "negative"),
    ],
)
def test_what_a_sofa_file_lacks_is_told(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    head = SofaHead(sofa(tmp_path / "head.sofa", **changes))
    told = refusal(lambda: head.response(0))
    assert "head.sofa" in told and message in told


def test_no_file_no_hdf5_and_no_direction_are_told(tmp_path: Path) -> None:
    assert "no such file" in refusal(lambda: SofaHead(tmp_path / "none.sofa").response(0))
    (tmp_path / "text.sofa").write_text("no head")
    assert "not readable as SOFA, which is HDF5" in refusal(lambda: SofaHead(tmp_path / "text.sofa").response(0))
    told = refusal(lambda: SofaHead(sofa(tmp_path / "head.sofa")).response(-45))
    assert "nearest to azimuth -45 is 15 degrees away; rooms need all sides" in told


# -- the database of Kayser et al. ------------------------------------------------------------------------------------


@pytest.fixture
def kayser(tmp_path: Path) -> Path:
    """Single impulses at 16 kHz whose height tells azimuth and channel; files for azimuths up to 0 only."""
    home = tmp_path / "HRIR_database_wav/hrir"
    for stem, channels in (("anechoic/anechoic_distcm_80_el_0", 8), ("office_I/office_I_distcm_100_el_0", 6)):
        (home / stem).parent.mkdir(parents=True)
        for azimuth in range(-180 if channels == 8 else -90, 1, 5):
            sound = np.zeros((64, channels))
            sound[8] = 0.001 * -azimuth + 0.1 * np.arange(1, channels + 1)
            soundfile.write(home / f"{stem}_az_{azimuth}.wav", sound, 16_000, subtype="FLOAT")
    return tmp_path


def test_kayser_reads_the_front_microphone_of_the_left_ear(kayser: Path) -> None:
    for root in (kayser, kayser / "HRIR_database_wav", kayser / "HRIR_database_wav/hrir"):
        head = KayserHead(root)
        assert head.response(-90).max() == pytest.approx(0.09 + 0.3)  # channel 3
        assert head.response(90).max() == pytest.approx(0.09 + 0.4)  # mirrored: the right ear, channel 4
        assert head.response(-178).max() == head.response(180).max() == pytest.approx(0.18 + 0.4)
        office = [head.in_room("Office", azimuth) for azimuth in (-33, 90, 120)]
        assert office[0].max() == pytest.approx(0.035 + 0.1) and office[1].max() == pytest.approx(0.09 + 0.2)
        assert office[2] is None and head.in_room("Cafeteria", 0) is None
        assert len(head.files()) == 37 + 19


def test_kayser_prefers_the_file_itself(kayser: Path) -> None:
    soundfile.write(kayser / "HRIR_database_wav/hrir/anechoic/anechoic_distcm_80_el_0_az_45.wav",
                    np.tile(np.eye(8)[2], (64, 1)), 16_000, subtype="FLOAT")  # fmt: skip
    assert KayserHead(kayser).response(45).max() == pytest.approx(1, abs=0.2)


def test_scenes_are_heard_with_the_head_of_kayser(kayser: Path) -> None:
    corpus = Scenes(head=str(kayser), snrs=[5])
    assert corpus.fingerprint() != Scenes(snrs=[5]).fingerprint()
    for item in corpus.items("test")[::5]:
        noise = corpus.load(item) - corpus.reference(item)
        level = active_level(corpus.reference(item), 16_000)
        assert level - 10 * np.log10(np.mean(np.square(noise, dtype=np.float64))) == pytest.approx(5, abs=0.01)
    assert {corpus.scene(item).scenario for item in corpus.items("test")[::5]} == {"Anechoic", "Office", "Cafeteria"}


def test_what_kayser_lacks_is_told(kayser: Path, tmp_path: Path) -> None:
    assert "holds no hrir/anechoic" in refusal(lambda: KayserHead(tmp_path / "none").response(0))
    home = kayser / "HRIR_database_wav/hrir/anechoic"
    (home / "anechoic_distcm_80_el_0_az_-20.wav").unlink()
    assert "az_20.wav: no such file" in refusal(lambda: KayserHead(kayser).response(20))
    soundfile.write(home / "anechoic_distcm_80_el_0_az_-20.wav", np.ones((64, 2)), 16_000)
    assert "has 2 channels, not 8" in refusal(lambda: KayserHead(kayser).response(20))


def test_every_head_says_what_it_is(tmp_path: Path) -> None:
    heads: list[Head] = [SphericalHead(), SofaHead(tmp_path / "a.sofa"), KayserHead(tmp_path)]
    assert "spherical-head model" in heads[0].note() and "a.sofa" in heads[1].note() and "Kayser" in heads[2].note()

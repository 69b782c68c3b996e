"""HPM: Gaussians by hand, tables that are the same on every machine, side information that pays for itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes, information
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.hpm import HPM
from codecbench.quantizers.parts.density import (
    FRACTIONS,
    LEAST_SCALE,
    ONE,
    PER_OCTAVE,
    SPREAD,
    RowConvolution,
    gaussian_counts,
    gaussian_log2_mass,
)
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

CHANNELS = 8
SIDE = 2


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loud_and_quiet(positions: int, seed: int) -> Tensor:
    """Latents "1 8 T" whose positions share a mean and a scale."""
    generator = torch.Generator().manual_seed(seed)
    mean = 3 * torch.randn(1, 1, positions, generator=generator)
    scale = 4 ** torch.randn(1, 1, positions, generator=generator).clamp(-1, 1)
    return mean + scale * torch.randn(1, CHANNELS, positions, generator=generator)


def train(quantizer: HPM | FEM, steps: int = 400) -> HPM | FEM:
    quantizer.train().fit(loud_and_quiet(4096, -5))
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, (steps - step) / (0.2 * steps))
        latents = loud_and_quiet(256, step)
        out = quantizer(latents)
        optimizer.zero_grad()
        ((out.latents - latents).square().mean() + out.loss).backward()
        optimizer.step()
        quantizer.update(out.source, out.codes, (step + 1) / steps)
    quantizer.eval().fit_tables(quantizer(loud_and_quiet(4096, -1)).codes)
    return quantizer


@pytest.fixture(scope="module")
def trained() -> HPM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return train(HPM(CHANNELS, target_bits=20.0, width=16))


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_the_paper_size_has_184346_parameters_and_64_side_streams() -> None:
    quantizer = HPM(256, width=100)
    assert sum(p.numel() for p in quantizer.parameters()) - quantizer.log_step.numel() == 184_346
    assert len(quantizer.alphabet) == 64 + 256


@pytest.mark.parametrize("channels, side", [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (9, 3), (32, 8)])
def test_any_number_of_channels_has_a_quarter_of_side_streams_rounded_up_twice(channels: int, side: int) -> None:
    quantizer = HPM(channels, width=3).eval()
    out = quantizer(torch.randn(2, channels, 4))
    assert out.codes.shape == (2, side + channels, 4) and out.latents.shape == (2, channels, 4)
    assert quantizer.tables(out.codes[:, :side]).index.shape == (2, channels, 4)


def test_an_empty_width_is_refused() -> None:
    with pytest.raises(ValueError, match="width=0 must lie between 1 and 3640"):
        HPM(4, width=0)


# -- Gaussians --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale, entropy", [(0.5, 1.24120), (1.0, 2.10483), (2.0, 3.06197), (4.0, 4.05084)])
def test_entropies_of_rounded_gaussians(scale: float, entropy: float) -> None:
    log2_mass = gaussian_log2_mass(torch.arange(-200, 201).double(), torch.tensor(scale).double())
    assert -(log2_mass.exp2() * log2_mass).sum().item() == pytest.approx(entropy, abs=1e-5)
    assert log2_mass.exp2().sum().item() == pytest.approx(1, abs=1e-12)


def test_masses_of_a_gaussian_by_hand() -> None:
    mass = gaussian_log2_mass(torch.zeros(3).double(), torch.tensor([0.5, 1.0, 2.0]).double()).exp2()
    assert mass.tolist() == pytest.approx([0.682689, 0.382925, 0.197413], abs=1e-6)  # erf(1 / (2 sqrt 2 scale))
    assert gaussian_log2_mass(torch.ones(()).double(), torch.ones(()).double()).exp2().item() == pytest.approx(
        0.241730, abs=1e-6
    )


def test_far_tails_of_gaussians_are_finite_and_pull_back() -> None:
    offset = torch.tensor([-1e3, 1e3], requires_grad=True)
    bits = -gaussian_log2_mass(offset, torch.tensor(0.125))
    (gradient,) = torch.autograd.grad(bits.sum(), offset)
    assert bits.isfinite().all() and gradient[0] < 0 < gradient[1] and gradient.isfinite().all()


def test_a_table_row_is_the_density_of_its_scale_and_fraction() -> None:
    rows = gaussian_counts().long()
    one, four = -LEAST_SCALE * PER_OCTAVE * FRACTIONS, (2 - LEAST_SCALE) * PER_OCTAVE * FRACTIONS
    assert int(rows[one, SPREAD]) == pytest.approx(0.382925 * 2**20, abs=200)
    assert int(rows[one, SPREAD + 1]) == int(rows[one, SPREAD - 1]) == pytest.approx(0.241730 * 2**20, abs=200)
    half = rows[one + FRACTIONS // 2]  # mean 1/2: 0 and 1 are alike, Phi(1) - Phi(0)
    assert half[SPREAD : SPREAD + 2].tolist() == pytest.approx([0.341345 * 2**20] * 2, abs=200)
    shares = rows[four].double() / 2**20
    assert -(shares * shares.log2()).sum().item() == pytest.approx(4.05084, abs=0.01)


# -- the exact decoder ------------------------------------------------------------------------------------------------


def plain_convolution(layer: RowConvolution, rows: list[list[int]], length: int) -> list[list[int]]:
    """The layer on whole numbers in Python's integers; nothing to round, in no particular order."""
    weight = (layer.weight.double() * 2**14).round().long().tolist()
    bias = (layer.bias.double() * ONE).round().long().tolist()
    out = [[value] * length for value in bias]
    half, size = layer.kernel // 2, len(rows[0])
    for o in range(len(bias)):
        for i, row in enumerate(rows):
            for position in range(length):
                for tap in range(layer.kernel):
                    if layer.upsampling:
                        source, rest = divmod(position + half - tap, layer.stride)
                        out[o][position] += weight[i][o][tap] * row[source] if not rest and 0 <= source < size else 0
                    else:
                        source = position * layer.stride + tap - half
                        out[o][position] += weight[o][i][tap] * row[source] if 0 <= source < size else 0
    return out


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_the_start_leaves_side_symbols_that_can_still_learn(seed: int) -> None:
    torch.manual_seed(seed)
    quantizer = HPM(32).train()
    quantizer.fit(torch.randn(2, 32, 40))  # independent latents, of which side symbols tell nothing
    out = quantizer(torch.randn(1, 32, 12))
    out.bits.mean().backward()
    assert quantizer.encoder.first.weight.grad.abs().max() > 1e-3


def test_the_exact_decoder_is_integer_arithmetic() -> None:
    torch.manual_seed(0)
    decoder = HPM(11, width=3).decoder
    symbols = torch.randint(-9, 10, (4, 3))
    for symbol, exact in zip(symbols, decoder.exact(symbols), strict=True):
        rows = [[int(value) * 2**8 for value in symbol]]
        for layer, length in ((decoder.first, 6), (decoder.second, 11)):
            sums = torch.tensor(plain_convolution(layer, rows, length), dtype=torch.float64)
            rows = (torch.where(sums < 0, sums / 16, sums) / 2**14).round().clamp(-(2**20), 2**20).long().tolist()
        assert exact.tolist() == plain_convolution(decoder.third, rows, 11)


def test_the_float_path_follows_the_exact_one(trained: HPM) -> None:
    side = trained(loud_and_quiet(500, -4)).codes[0, :SIDE].T
    exact = trained.decoder.exact(side) / ONE
    floats = trained.decoder.present()(side.float()).view(-1, 2, CHANNELS).double()
    assert (exact - floats).abs().mean() < 0.02 and (exact - floats).abs().max() < 0.3


def test_tables_do_not_hang_on_the_batch_they_are_computed_in(trained: HPM) -> None:
    side = trained(loud_and_quiet(300, -4)).codes[:, :SIDE]
    whole = trained.tables(side)
    for part, number in zip(side.split(50, 2), range(0, 300, 50), strict=True):
        alone = trained.tables(part)
        for name in ("index", "shift"):
            assert torch.equal(getattr(alone, name), getattr(whole, name)[..., number : number + 50])
    several = trained.tables(side.view(SIDE, 3, 100).transpose(0, 1))
    assert torch.equal(several.index[1], whole.index[0, :, 100:200])


CHILD = """
import sys, torch
from safetensors.torch import load_file, save_file
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.hpm import HPM
folder, threads, batch, make = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), {"hpm": HPM, "fem": FEM}
torch.set_num_threads(threads)
found = {}
for name, cls in make.items():
    quantizer = cls(32).eval()
    quantizer.load_state_dict(load_file(f"{folder}/{name}.safetensors"))
    codes = load_file(f"{folder}/codes.safetensors")[name]
    side = codes[:, : quantizer.factorised]
    known = torch.zeros(batch, 0, 240 // batch, dtype=torch.int64) if name == "fem" else torch.cat(
        side.split(240 // batch, 2))
    tables = quantizer.tables(known)
    found |= {f"{name}.{part}": torch.cat(list(getattr(tables, part)), 1)[None].contiguous()
              for part in ("index", "shift")}
    found[f"{name}.counts"] = tables.counts.contiguous()
    data = encode_codes(quantizer, codes)
    found[f"{name}.bytes"] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    for other in sys.argv[4:]:
        theirs = bytes(load_file(other)[f"{name}.bytes"].tolist())
        assert torch.equal(decode_codes(quantizer, theirs, 240), codes), name
save_file(found, f"{folder}/{threads}-{batch}.safetensors")
"""


def child(folder: Path, threads: int, batch: int, *others: Path, **environment: str) -> Path:
    """Tables and bytes as another process makes them, after it decoded those of `others`."""
    command = [sys.executable, "-c", CHILD, str(folder), str(threads), str(batch), *map(str, others)]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)} | environment, check=True, timeout=300)
    return folder / f"{threads}-{batch}.safetensors"


@pytest.mark.slow
def test_processes_with_other_threads_batches_and_instructions_make_the_same_tables_and_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codes = {}
    latents = 2 * torch.randn(1, 32, 240)
    for name, quantizer in (("hpm", HPM(32)), ("fem", FEM(32))):
        quantizer.train().fit(2 * torch.randn(4, 32, 128))
        codes[name] = quantizer.eval()(latents).codes.contiguous()
        quantizer.fit_tables(codes[name])
        if name == "hpm":
            codes[name][:, : quantizer.factorised] = torch.randint(-5, 6, (1, quantizer.factorised, 240))
        save_file(quantizer.state_dict(), tmp_path / f"{name}.safetensors")
    save_file(codes, tmp_path / "codes.safetensors")
    first = child(tmp_path, 1, 1)
    second = child(tmp_path, 2, 8, first, ATEN_CPU_CAPABILITY="default")
    one, two = load_file(first), load_file(second)
    assert {name for name in one if not torch.equal(one[name], two[name])} == set()
    assert one["hpm.index"].unique().numel() > 50


# -- rate -------------------------------------------------------------------------------------------------------------


def test_side_noise_is_uniform_and_independent_of_every_channel() -> None:
    torch.manual_seed(0)
    for channels in (2, 5, 9):
        noise = torch.rand(1, channels, 200_000) - 0.5
        quantizer = HPM(channels, width=2)
        side = quantizer.stream_noise(noise)[0, : quantizer.factorised]
        assert side.abs().max() <= 0.5
        assert side.var(1).tolist() == pytest.approx([1 / 12] * len(side), rel=0.02)
        cells = ((side[:, None] + 0.5) * 4).long().clamp(0, 3) * 4 + ((noise + 0.5) * 4).long().clamp(0, 3)
        for pair in cells.flatten(0, 1):
            assert pair.bincount(minlength=16).tolist() == pytest.approx([12_500] * 16, rel=0.06)


def test_the_bits_are_those_of_side_and_main_symbols(trained: HPM) -> None:
    out = trained(loud_and_quiet(50, -2))
    side = trained.density.streams(out.codes[:, :SIDE].float())
    assert torch.equal(trained.log2_mass(out.codes.float())[:, :SIDE], side)
    assert (out.bits > -side.sum(1) - 1e-3).all()


def test_files_take_the_target_within_5_percent_and_what_the_forward_says(trained: HPM) -> None:
    out = trained(loud_and_quiet(6000, -3))
    spent = 8 * len(encode_codes(trained, out.codes)) / 6000
    assert spent == pytest.approx(20, rel=0.05)
    assert spent == pytest.approx(out.bits.mean().item(), rel=0.03)


def test_side_information_pays_for_itself(trained: HPM) -> None:
    codes = trained(loud_and_quiet(2000, -3)).codes
    assert information(trained, codes) < 0.95 * best_static(codes[:, SIDE:])


def best_static(codes: Tensor) -> float:
    """Bits under one histogram a channel, fitted on the very codes: no static table does better."""
    total = 0.0
    for stream in codes[0]:
        counts = stream.unique(return_counts=True)[1].double()
        total -= (counts * (counts / counts.sum()).log2()).sum().item()
    return total


def test_a_fresh_decoder_reads_the_main_streams_under_the_decoded_side_information(trained: HPM) -> None:
    codes = trained(loud_and_quiet(500, -2)).codes
    decoder = HPM(CHANNELS, target_bits=20.0, width=16).eval()
    decoder.load_state_dict(load(save(trained.state_dict())))
    assert torch.equal(decode_codes(decoder, encode_codes(trained, codes), 500), codes)


def test_wild_integers_in_both_groups_go_through_the_escape(trained: HPM) -> None:
    codes = trained(loud_and_quiet(50, -2)).codes
    codes[0, 0, 3], codes[0, 1, 4], codes[0, 2, 5], codes[0, 9, 6] = 2**31 - 1, -(2**31), -(10**6), 17
    assert torch.equal(decode_codes(trained, encode_codes(trained, codes), 50), codes)


def test_stepping_frame_by_frame_writes_the_codes_of_the_whole() -> None:
    torch.manual_seed(0)
    for channels in (5, 12):  # short rows become matrices, long ones stay convolutions
        quantizer = HPM(channels).eval()
        quantizer.fit(torch.randn(1, channels, 1024))
        latents = torch.randn(3, channels, 6)
        one = quantizer.stepper(quantizer.draw(3, 6))
        frames = [one(latents[..., n], n) for n in range(6)]
        out = quantizer(latents)
        assert torch.equal(torch.stack([codes for _, codes in frames], 2), out.codes)
        assert torch.equal(torch.stack([values for values, _ in frames], 2), out.latents)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_target_is_met_by_every_seed(seed: int) -> None:
    torch.manual_seed(seed)
    quantizer = train(HPM(CHANNELS, target_bits=20.0, width=16), 1000)
    out = quantizer(loud_and_quiet(6000, -3))
    assert 8 * len(encode_codes(quantizer, out.codes)) / 6000 == pytest.approx(20, rel=0.05)

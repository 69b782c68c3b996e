"""A callback in anybody's training does what a loop that calls everything by hand does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from codecbench.quantizers.base import Codes, Latents, Nested, Quantizer
from codecbench.quantizers.callback import QuantizerCallback, outermost
from codecbench.quantizers.coding.entropy import decode_codes, encode_codes
from codecbench.quantizers.ema_vq import EMAVQ
from codecbench.quantizers.fem import FEM
from codecbench.quantizers.nsvq import NSVQ
from codecbench.quantizers.residual import Residual
from codecbench.quantizers.soft_to_hard import SoftToHard
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

STEPS, BATCH, POSITIONS = 12, 4, 30
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


class Autoencoder(LightningModule):
    """What a stranger writes; `inside` counts its forwards in validation too."""

    def __init__(self, *quantizers: Quantizer) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.encoder, self.decoder = nn.Linear(6, 3), nn.Linear(3, 6)
        with torch.no_grad():
            for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        self.parts = nn.ModuleDict({f"q{number}": quantizer for number, quantizer in enumerate(quantizers)})

    def loss(self, batch: Tensor) -> Tensor:
        rest = self.encoder(batch).mT
        total, loss = torch.zeros_like(rest), torch.zeros(())
        for quantizer in self.parts.values():  # each what those before it left
            quantized = quantizer(rest)
            rest, total, loss = rest - quantized.latents, total + quantized.latents, loss + quantized.loss
        return (self.decoder(total.mT) - batch).square().mean() + loss

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        torch.manual_seed(1000 + self.global_step)
        return self.loss(batch)

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.loss(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.05)


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(BATCH, POSITIONS, 6, generator=generator) for _ in range(STEPS)]


def loader() -> DataLoader[Tensor]:
    return DataLoader(batches(), batch_size=None)  # type: ignore[arg-type]


def trainer(folder: Path, *callbacks: Any, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(
        **{"max_steps": STEPS, "num_sanity_val_steps": 0, "default_root_dir": folder} | quiet | options,
        callbacks=list(callbacks),
    )


def by_hand(module: Autoencoder, warmup: int = 0, together: int = 1, steps: int = STEPS) -> Autoencoder:
    """The loop that a stranger would have to write: `together` batches a step."""
    optimizer, quantizers = module.configure_optimizers(), list(module.parts.values())
    module.train()
    latest: dict[Any, list[Tensor]] = {quantizer: [] for quantizer in quantizers}
    for step in range(steps):
        optimizer.zero_grad()
        made: dict[Any, list[Any]] = {quantizer: [] for quantizer in quantizers}
        for number, batch in enumerate(batches()[step * together : (step + 1) * together]):
            torch.manual_seed(1000 + step)
            rest = module.encoder(batch).mT
            total, loss = torch.zeros_like(rest), torch.zeros(())
            for quantizer in quantizers:
                quantizer.bypass = step < warmup
                if step == warmup and number == 0:
                    quantizer.fit(rest.detach())
                made[quantizer].append(quantizer(rest))
                quantized = made[quantizer][-1]
                rest, total, loss = rest - quantized.latents, total + quantized.latents, loss + quantized.loss
            loss = (module.decoder(total.mT) - batch).square().mean() + loss
            (loss / together).backward()
        optimizer.step()
        for quantizer in quantizers if step >= warmup else ():
            sources, codes = [one.source for one in made[quantizer]], [one.codes for one in made[quantizer]]
            quantizer.update(torch.cat(sources), torch.cat(codes), (step + 1 - warmup) / (steps - warmup))
            latest[quantizer] += sources
    for quantizer in quantizers:
        quantizer.eval()
        quantizer.fit_tables(torch.cat([quantizer(source).codes for source in latest[quantizer]]).detach())
    return module


METHODS = {
    "nsvq": lambda: NSVQ(3, 3.0),
    "ema_vq": lambda: EMAVQ(3, 3.0),
    "residual": lambda: Residual(3, Nested(EMAVQ, {"codebook_bits": 2.0}), 2),
    "soft_to_hard": lambda: SoftToHard(3),
    "fem": lambda: FEM(3),
}


def made(*names: str) -> Autoencoder:
    torch.manual_seed(7)
    return Autoencoder(*(METHODS[name]() for name in names))


def equal(first: nn.Module, second: nn.Module) -> bool:
    mine, other = first.state_dict(), second.state_dict()
    return mine.keys() == other.keys() and all(torch.allclose(mine[name], other[name], atol=1e-6) for name in mine)


@pytest.mark.parametrize("name", METHODS)
def test_it_trains_as_a_loop_by_hand(name: str, tmp_path: Path) -> None:
    module = made(name)
    trainer(tmp_path, QuantizerCallback()).fit(module, loader())
    assert equal(module, by_hand(made(name)))
    quantizer = module.parts["q0"].eval()
    codes = quantizer(torch.randn(1, 3, 50)).codes
    assert torch.equal(decode_codes(quantizer, encode_codes(quantizer, codes), 50), codes)
    if name != "fem":  # whose tables are those of its density
        assert sum(len(part.table_counts) for part in outermost(module)["parts.q0"].modules() if _is(part)) > 0


def _is(part: nn.Module) -> bool:
    return isinstance(part, Quantizer)


def test_quantizers_of_a_cascade_start_from_what_those_before_them_leave(tmp_path: Path) -> None:
    module = made("ema_vq", "nsvq")
    trainer(tmp_path, QuantizerCallback()).fit(module, loader())
    assert equal(module, by_hand(made("ema_vq", "nsvq")))


def test_the_warm_up_is_a_share_of_the_training_and_progress_runs_over_the_rest(tmp_path: Path) -> None:
    module = made("soft_to_hard")
    trainer(tmp_path, QuantizerCallback(warmup=0.5)).fit(module, loader())
    assert equal(module, by_hand(made("soft_to_hard"), warmup=6))
    assert not equal(module, by_hand(made("soft_to_hard")))


def test_the_codebook_starts_by_k_means_and_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    fit, update = EMAVQ.fit, EMAVQ.update

    def noted_fit(self: EMAVQ, latents: Latents) -> None:
        fit(self, latents)
        seen.append((latents, self.codebook.clone()))

    def noted_update(self: EMAVQ, latents: Latents, codes: Codes, progress: float) -> None:
        update(self, latents, codes, progress)
        seen.append(progress)

    monkeypatch.setattr(EMAVQ, "fit", noted_fit)
    monkeypatch.setattr(EMAVQ, "update", noted_update)
    module = made("ema_vq")
    first = module.encoder(batches()[0]).mT
    trainer(tmp_path, QuantizerCallback()).fit(module, loader())
    (latents, started), *progress = seen
    assert torch.equal(latents, first)
    assert progress == pytest.approx([(step + 1) / STEPS for step in range(STEPS)])
    nearest = (latents.mT.reshape(-1, 1, 3) - started).square().sum(-1).argmin(1)
    means = torch.stack([latents.mT.reshape(-1, 3)[nearest == k].mean(0) for k in range(8)])
    assert torch.allclose(means, started, atol=1e-3)  # where k-means ends
    assert (module.parts["q0"].codebook - started).abs().max() > 1e-3


def test_accumulated_gradients_count_once_a_step(tmp_path: Path) -> None:
    module = made("ema_vq")
    steps = STEPS // 3
    trainer(tmp_path, QuantizerCallback(), accumulate_grad_batches=3, max_steps=steps).fit(module, loader())
    assert equal(module, by_hand(made("ema_vq"), together=3, steps=steps))


def test_epochs_end_a_training_too(tmp_path: Path) -> None:
    module = made("soft_to_hard")
    trainer(tmp_path, QuantizerCallback(), max_steps=-1, max_epochs=1).fit(module, loader())
    assert equal(module, by_hand(made("soft_to_hard")))


def test_what_is_not_training_does_not_count(tmp_path: Path) -> None:
    class Watching(Autoencoder):
        def training_step(self, batch: Tensor, index: int) -> Tensor:
            with torch.no_grad():
                self.loss(batch)
            return super().training_step(batch, index)

    plain, watching = made("ema_vq"), made("ema_vq")
    watching.__class__ = Watching
    trainer(tmp_path, QuantizerCallback()).fit(plain, loader())
    trainer(tmp_path, QuantizerCallback(), val_check_interval=2).fit(watching, loader(), loader())
    assert equal(plain, watching)


class Alternating(Autoencoder):
    """Two optimisers, stepped by hand."""

    automatic_optimization = False

    def training_step(self, batch: Tensor, index: int) -> None:  # type: ignore[override]
        torch.manual_seed(0)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 0.05) for part in (self.encoder, self.decoder)]


def test_a_batch_of_several_optimisers_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []
    monkeypatch.setattr(EMAVQ, "update", lambda self, latents, codes, progress: seen.append((codes.numel(), progress)))
    torch.manual_seed(0)
    module = Alternating(EMAVQ(3, 3.0))
    trainer(tmp_path, QuantizerCallback(), max_steps=-1, max_epochs=1).fit(module, loader())
    assert seen == [(2 * BATCH * POSITIONS, pytest.approx((step + 1) / STEPS)) for step in range(STEPS)]


def test_a_resumed_training_starts_no_quantizer_anew_and_a_checkpoint_holds_the_tables(tmp_path: Path) -> None:
    whole = made("ema_vq")
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    trainer(tmp_path, QuantizerCallback(), keep, max_steps=9).fit(whole, loader())
    assert len(torch.load(tmp_path / "step=9.ckpt", weights_only=True)["state_dict"]["parts.q0.table_counts"]) == 8
    resumed, again = made("ema_vq"), trainer(tmp_path, QuantizerCallback(), max_steps=9)
    rest = DataLoader(batches()[6:], batch_size=None)  # type: ignore[arg-type]
    again.fit(resumed, rest, ckpt_path=tmp_path / "step=6.ckpt", weights_only=True)
    assert torch.equal(resumed.parts["q0"].codebook, whole.parts["q0"].codebook)


def test_trained_quantizers_go_on_as_they_are_where_fit_is_left_out(tmp_path: Path) -> None:
    module = made("nsvq")
    trainer(tmp_path, QuantizerCallback()).fit(module, loader())
    codebook = module.parts["q0"].codebook.detach().clone()
    trainer(tmp_path, QuantizerCallback(fit=False), max_steps=1).fit(module, loader())
    assert 0 < (module.parts["q0"].codebook - codebook).abs().max() < 0.1


def test_only_outermost_quantizers_are_looked_after() -> None:
    module = nn.Sequential(made("residual", "nsvq"), NSVQ(2))
    assert list(outermost(module)) == ["0.parts.q0", "0.parts.q1", "1"]


def test_a_training_stopped_within_or_after_the_warm_up_leaves_the_module_as_it_was_found(tmp_path: Path) -> None:
    class Stopping(Autoencoder):
        def training_step(self, batch: Tensor, index: int) -> Tensor:
            self.trainer.should_stop = index == 3
            return super().training_step(batch, index)

    for warmup, rows in ((0.0, 8), (0.5, 0)):
        torch.manual_seed(0)
        module = Stopping(NSVQ(3, 3.0))
        trainer(tmp_path, QuantizerCallback(warmup)).fit(module, loader())
        quantizer: Any = module.parts["q0"]
        assert not quantizer.bypass and quantizer.training and len(quantizer.table_counts) == rows
        assert not quantizer._forward_hooks and not quantizer._forward_pre_hooks


def test_an_exception_lets_go_of_the_quantizers(tmp_path: Path) -> None:
    class Failing(Autoencoder):
        def training_step(self, batch: Tensor, index: int) -> Tensor:
            super().training_step(batch, index)
            raise ArithmeticError

    module = Failing(NSVQ(3, 3.0))
    with pytest.raises(ArithmeticError):
        trainer(tmp_path, QuantizerCallback(0.5)).fit(module, loader())
    quantizer: Any = module.parts["q0"]
    assert not quantizer.bypass and not quantizer._forward_hooks


def test_a_quantizer_that_is_never_called_is_named_once(tmp_path: Path) -> None:
    module = made("nsvq")
    module.other = NSVQ(3)
    with pytest.warns(UserWarning, match="saw no forward of 'other' in training") as caught:
        trainer(tmp_path, QuantizerCallback()).fit(module, loader())
    assert len([one for one in caught if "saw no forward" in str(one.message)]) == 1


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"warmup=1\.0 must be a share"):
        QuantizerCallback(1.0)
    endless = trainer(tmp_path, QuantizerCallback(), max_steps=-1, max_epochs=-1)
    with pytest.raises(ValueError, match="pass the Trainer max_steps, max_epochs"):
        endless.fit(made("nsvq"), loader())

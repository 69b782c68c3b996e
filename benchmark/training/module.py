"""The one training module of the suite: a codec, its loss, its schedule; quantizers are told what they need by it.

steps:  |- warm-up: no quantizer -|- fit -|- quantizer in the loop, constant learning rate ... -|- cool-down to 0 -|
                                               |- discriminators, where asked for ------------------------------|
Every step draws its data and its noise from (seed, step), so that a resumed run gives the same numbers. A codec of
several phases goes through warm-up, fit and cool-down once per phase, see phases.py; the discriminators enter once.
Where a recipe lists stages (stages.py), this is one of them; the quantizers may be left out, or be in from the start.
"""

import time
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from ...codecs.base import Codec, Coded
from ..errors import UserError
from ..losses.adversary import SHORTEST, Adversary
from ..specs.stages import SPSA, VSTOI, Gradient
from ..specs.training import Training
from ..tracks.base import Track
from .crops import TrainingData, crop_length, crops
from .job import Job
from .phases import Stretch, check_phases, enter, leave, stretch_of, trainable

FIT_SECONDS = 115.2  # of training crops from whose latents codebooks start
Quantizers = Literal["join", "absent", "present"]  # after the warm-up, fitted then; never; from the start, as they are
FLAT = 0.02  # a validation loss that changes by less than this share from one stretch to the next is flat


class TrainingModule(LightningModule):
    """Trains one codec on one track."""

    def __init__(
        self, codec: Codec, track: Track, training: Training, seed: int, quantizers: Quantizers = "join"
    ) -> None:
        super().__init__()
        self.codec, self.track, self.training_options, self.seed = codec, track, training, seed
        self.quantizers = quantizers
        self.trained = trainable(codec)
        self.idle = nn.Parameter(torch.zeros(()))  # to optimise where the quantizer alone learns, by update() or fit()
        self.stretch = self._stretch(0)
        self.curve: list[tuple[int, float, bool]] = []  # step, validation loss, quantized
        self.coded: Coded | None = None
        self.best: dict[str, Tensor] | None = None  # the codec's state at the least validation loss, if that is kept
        self.begin, self.spent = time.perf_counter(), 0.0
        self.adversary: Adversary | None = None
        self.adversarial_step = round(training.adversarial_from * training.steps)
        self.pair: tuple[Tensor, Tensor] | None = None  # what the discriminators learn from next
        if training.adversarial_weight > 0:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adversary = Adversary(training.discriminator_channels, training.discriminator_learning_rate)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam or AdamW at the schedule's learning rate; the discriminators have their own.

        It starts anew in every phase: parameters have no moments before their first gradient.
        """
        options = self.training_options
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.optimizer]
        trained = [p for p in self.codec.parameters() if p.requires_grad]
        optimizer = kind(trained or [self.idle], lr=options.learning_rate)

        def pace(step: int) -> float:
            stretch = self._stretch(step)
            share = options.later_phases if stretch.phase else 1.0
            return share * options.pace(step - stretch.begin, stretch.end - stretch.begin)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, pace)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """A resumed run validates before its first step: what the step before it left."""
        self._enter_step(max(0, self.global_step - 1))

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Seed the step; bring in the quantizers when the warm-up is over."""
        step = self.global_step
        torch.manual_seed(int(np.random.SeedSequence([self.seed, step]).generate_state(1)[0]))
        self._enter_step(step)
        if self.quantizers == "join" and step == self._entry():
            fit(self.codec, self.track, self.training_options, self.seed, self.device)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Distortion plus the quantizers' own losses, plus what the discriminators say."""
        coded = self.codec(batch)
        decoded = coded.signal.to(batch.dtype)
        self.coded = coded
        with torch.autocast(self.device.type, enabled=False):
            distortion = self.track.loss(batch, decoded)
        loss = distortion + sum(quantized.loss for quantized in coded.quantized)
        if not loss.requires_grad:
            loss = loss + 0 * self.idle
        if self.adversary is not None and self.global_step >= self.adversarial_step:
            adversarial, matching = self.adversary.judge(batch, decoded)
            options = self.training_options
            loss = loss + options.adversarial_weight * adversarial + options.feature_weight * matching
            self.pair = batch, decoded.detach()
        if not torch.isfinite(loss):
            raise UserError(f"training diverged at step {self.global_step}; lower --training.learning_rate")
        self.log("train_loss", distortion, prog_bar=True)
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The step, then the state outside gradient descent: both are done before a checkpoint is written."""
        super().optimizer_step(*args, **kwargs)
        begin = self._entry()
        done = (self.global_step + 1 - begin) / max(1, self.stretch.end - begin)  # Lightning counts the step later
        if self.coded is not None:
            self.codec.update(self.coded, min(max(done, 0.0), 1.0))
        if self.adversary is not None and self.pair is not None:
            self.log("discriminator_loss", self.adversary.learn(*self.pair))
        self.coded = self.pair = None

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Distortion of what evaluation would decode."""
        with torch.autocast(self.device.type, enabled=False):
            coded = self.codec(batch)
            loss = self.track.loss(batch, coded.signal)
        quantized = not any(quantizer.bypass for quantizer in self.codec.quantizers)
        if self.curve and self.curve[-1][0] == self.global_step:  # a resumed run validates once more
            self.curve.pop()
        self.curve.append((self.global_step, float(loss), quantized))
        if self.training_options.keep == "best" and self._is_best():
            self.best = {name: tensor.clone() for name, tensor in self.codec.state_dict().items()}
        self.log("validation_loss", loss, prog_bar=True)
        if quantized and self.logger is not None:
            self._log_codebooks(coded.quantized)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The curve, the time spent and the discriminators' optimiser travel with the checkpoint."""
        checkpoint["curve"] = [list(point) for point in self.curve]
        checkpoint["spent"], checkpoint["best"] = self.seconds, self.best
        checkpoint["adversary"] = None if self.adversary is None else self.adversary.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up again."""
        self.curve = [(int(step), float(loss), bool(quantized)) for step, loss, quantized in checkpoint["curve"]]
        self.begin, self.spent, self.best = time.perf_counter(), float(checkpoint["spent"]), checkpoint["best"]
        if self.adversary is not None:
            self.adversary.restore(checkpoint["adversary"])

    @property
    def seconds(self) -> float:
        """Wall time of the training so far, that before an interruption included."""
        return self.spent + time.perf_counter() - self.begin

    def _stretch(self, step: int) -> Stretch:
        return stretch_of(step, self.training_options.steps, len(self.codec.phases))

    def _enter_step(self, step: int) -> None:
        """Phase and bypass of a step."""
        self.stretch = self._stretch(step)
        if len(self.codec.phases) > 1 and self.codec.phase != self.stretch.phase:
            enter(self.codec, self.stretch.phase, self.trained)
        warming = step < self._entry()
        for quantizer in self.codec.quantizers:
            quantizer.bypass = warming and quantizer.training

    def _entry(self) -> int:
        """The step of the present stretch at which quantizers come in."""
        if self.quantizers == "join":
            return self.stretch.after(self.training_options.warmup)
        return self.stretch.end + 1 if self.quantizers == "absent" else self.stretch.begin

    def _is_best(self) -> bool:
        """Whether the last validation has the least loss of all with quantizers, in the last phase."""
        begin = self._stretch(self.training_options.steps).begin
        losses = [loss for step, loss, quantized in self.curve if quantized and step > begin]
        return bool(losses) and self.curve[-1][2] and losses[-1] == min(losses)

    def _log_codebooks(self, quantized: Any) -> None:
        from ..metrics.codes import perplexity

        for number, part in enumerate(quantized):
            for stream, symbols in enumerate(part.codes.unbind(1)):
                self.log(f"perplexity_{number}_{stream}", perplexity(symbols))


def converged(curve: list[tuple[int, float, bool]], training: Training, phases: int = 1) -> bool:
    """Whether the quantized validation loss was flat before the cool-down, that of the last phase where there are more.

    Flat: from the third quarter of the constant-rate stretch to the last, its mean changed by less than 2 %.
    """
    first, steps = stretch_of(training.steps, training.steps, phases).begin, training.steps
    begin, end = (first + share * (steps - first) for share in (training.warmup, 1 - training.cooldown))
    half, last = begin + (end - begin) / 2, begin + 3 * (end - begin) / 4
    early = [loss for step, loss, quantized in curve if quantized and half < step <= last]
    late = [loss for step, loss, quantized in curve if quantized and last < step <= end]
    return bool(early and late) and abs(float(np.mean(late)) / float(np.mean(early)) - 1) < FLAT


def check_training(codec: Codec, training: Training, signal_rate: float) -> None:
    """UserError where a codec cannot be trained so, in any of its stages, on signals of so many samples per second."""
    stages = training.stages
    for steps in (
        [training.steps] if stages is None else [stage.steps for stage in stages if isinstance(stage, Gradient)]
    ):
        check_phases(codec, steps)
    ascents = [stage.kind for stage in stages or () if isinstance(stage, VSTOI | SPSA)]
    if ascents and codec.domain != "stimulation":
        raise UserError(
            f"the stage {ascents[0]} ascends the VSTOI of stimulation patterns, and {type(codec).__name__} codes none; "
            "leave it out of --training.stages"
        )
    if training.adversarial_weight and codec.domain != "waveform":
        raise UserError(
            f"discriminators judge waveforms, and {type(codec).__name__} codes none; "
            "leave out --training.adversarial_weight"
        )
    length = crop_length(training, signal_rate)
    if training.adversarial_weight and length < SHORTEST:
        raise UserError(
            f"--training.crop_seconds {training.crop_seconds:g} gives crops of {length} samples, discriminators need "
            f"{SHORTEST}: at least {SHORTEST / signal_rate:.3g}"
        )


def fit(codec: Codec, track: Track, training: Training, seed: int, device: torch.device | str = "cpu") -> None:
    """Start the quantizers in training from the latents of training crops."""
    count = max(1, round(FIT_SECONDS / training.crop_seconds))
    codec.fit(crops(track, training, count, [seed, training.steps + 1]).to(device))


def train(codec: Codec, job: Job, quantizers: Quantizers = "join") -> TrainingModule:
    """Train in place, from the folder's last.ckpt on where a call was cut off before; ends on the CPU, in eval mode."""
    track, training, seed, folder, logger, bar = job
    check_training(codec, training, track.signal_rate)
    codec.train()  # an earlier stage may have left it in eval mode, where quantizers are never bypassed
    module = TrainingModule(codec, track, training, seed, quantizers)
    checkpoint = folder / "last.ckpt"
    callbacks: list[Callback] = [ModelCheckpoint(folder, save_last=True, save_top_k=0)]  # after every validation
    if bar:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    trainer = Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        max_steps=training.steps,
        max_epochs=-1,
        val_check_interval=min(training.validate_every, training.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=training.gradient_clip,
        precision="bf16-mixed" if training.precision == "bfloat16" else "32-true",
        callbacks=callbacks,
        logger=logger,
        enable_progress_bar=bar,
        enable_model_summary=False,
        log_every_n_steps=10,
    )
    data, resumed = TrainingData(track, training, seed), checkpoint if checkpoint.exists() else None
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit as ended:  # Lightning's answer to Ctrl-C
        raise KeyboardInterrupt from ended
    module.spent = module.seconds
    if module.best is not None:
        codec.load_state_dict(module.best)
    leave(codec, module.trained)
    leave_trained(codec)
    return module


def leave_trained(codec: Codec) -> None:
    """On the CPU, in eval mode, quantizers in."""
    codec.to("cpu").eval()
    for quantizer in codec.quantizers:
        quantizer.bypass = False

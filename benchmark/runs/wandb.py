"""Weights & Biases through Lightning's logger: only when asked, offline unless asked otherwise."""

import os
from pathlib import Path
from typing import Any

from ...leaderboards.records import Record
from ..errors import UserError
from ..specs.spec import Spec


def wandb_logger(mode: str | None, folder: Path, spec: Spec) -> Any:
    """A Lightning logger, or False where no tracking was asked for. UserError where wandb cannot start."""
    if mode is None:
        return False
    os.environ["WANDB_MODE"] = mode
    os.environ.setdefault("WANDB_SILENT", "true")
    from lightning.pytorch.loggers import WandbLogger

    try:
        logger = WandbLogger(name=spec.name, project="codecbench", save_dir=folder, offline=mode == "offline")
        logger.log_hyperparams(spec.recorded())
    except Exception as error:  # wandb raises many kinds: no account, no network, no folder
        raise UserError(f"--wandb {mode}: {' '.join(str(error).split())}; leave it out or use offline") from error
    return logger


def log_results(logger: Any, record: Record, folder: Path) -> None:
    """Scores, rates, codebook use, and the examples one can listen to and look at; closes the W&B run."""
    if logger is False:
        return
    import wandb

    results: dict[str, Any] = {f"score/{name}": score.mean for name, score in record.scores.items()}
    results |= {f"rate_kbps/{name}": value for name, value in record.rate_kbps.items()}
    results |= {
        f"codebook/{name}": record.codebook[name]
        for name in ("perplexity", "used", "dead", "size")
        if name in record.codebook
    }
    results |= {f"audio/{path.stem}": wandb.Audio(str(path)) for path in sorted((folder / "examples").glob("*.wav"))}
    results |= {f"picture/{path.stem}": wandb.Image(str(path)) for path in sorted((folder / "examples").glob("*.png"))}
    logger.experiment.log(results)
    wandb.finish()

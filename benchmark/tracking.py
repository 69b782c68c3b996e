"""Weights & Biases through Lightning's logger: only when asked, offline unless asked otherwise."""

import os
from pathlib import Path
from typing import Any

from .errors import UserError
from .spec import Spec


def wandb_logger(mode: str | None, folder: Path, spec: Spec) -> Any:
    """A Lightning logger, or False where no tracking was asked for. UserError where wandb cannot start."""
    if mode is None:
        return False
    os.environ["WANDB_MODE"] = mode
    os.environ.setdefault("WANDB_SILENT", "true")
    from lightning.pytorch.loggers import WandbLogger

    try:
        logger = WandbLogger(name=spec.name, project="codecbench", save_dir=folder, offline=mode == "offline")
        logger.log_hyperparams(spec.as_dict())
    except Exception as error:  # wandb raises many kinds: no account, no network, no folder
        raise UserError(f"--wandb {mode}: {' '.join(str(error).split())}; leave it out or use offline") from error
    return logger

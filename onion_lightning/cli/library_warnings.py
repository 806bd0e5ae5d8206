"""Silences library messages that appear in every run, and makes those about missing gradients errors."""

import logging
import os
import warnings

import transformers

from onion_lightning.messages import is_rank_zero

__all__ = ["silence_libraries"]

SILENCED = (
    ".*does not have many workers.*",  # rows are encoded beforehand: collating a batch takes milliseconds
    ".*No device id is provided via `init_process_group`.*",
    ".*`is_gradient_checkpointing` is deprecated.*",  # raised by peft
    ".*dataloader is not resumable.*",  # the sampler resumes: see data/sampler.py
    ".*isinstance\\(treespec, LeafSpec\\).*",  # raised by Lightning under torch 2.13
    ".*callbacks used to create the checkpoint need to be provided.*",  # another command reads a checkpoint of fit
    ".*Couldn't infer the batch indices.*",  # predictions carry their own indices
    r".*use `self.log\('(val|test)/.*sync_dist=True.*",  # these are summed over ranks before they are logged
    ".*Total length of `DataLoader` across ranks is zero.*",  # a resumed predict may have no articles left to write
    ".*smaller than the logging interval.*",
    ".*`srun` command is available on your system but is not used.*",  # a login node, where commands run without it
    ".*exists and is not empty.*",  # an earlier run's files are moved aside, with a message
)


# Warnings of torch that mean wrong or missing gradients. Training stops there with the warning as an exception.
FATAL = (
    ".*an autograd kernel was not registered.*",
    ".*None of the inputs have requires_grad=True.*",  # raised by gradient checkpointing
)


def silence_libraries() -> None:
    """Turn off messages that appear in every run and that nobody can act on."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"  # read when `datasets` is imported, which may be later
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("onion_lightning").setLevel(logging.INFO if is_rank_zero() else logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.raiseExceptions = False  # W&B's log file may be on a full disk: a traceback for each line, otherwise
    # It logs tracebacks when W&B's own process dies; wandb_logger.py reports that in one line.
    logging.getLogger("wandb.sdk.lib.asyncio_manager").setLevel(logging.CRITICAL)
    for message in SILENCED:
        warnings.filterwarnings("ignore", message=message)
    for message in FATAL:
        warnings.filterwarnings("error", message=message)

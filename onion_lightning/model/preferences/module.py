"""The LightningModule that learns from preference pairs (DPO)."""

from typing import Any, ClassVar

import torch

from onion_lightning.data.preferences.batches import PairBatch
from onion_lightning.errors import OnionError
from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.model.loss import token_losses
from onion_lightning.model.module import OnionModule
from onion_lightning.model.preferences.loss import HeldOutPairs, PairFigures, PreferenceSettings
from onion_lightning.model.preferences.reference import SPLITS, check_saved, find_reference, pairs_digest
from onion_lightning.model.sharding.pace import keeping_pace

__all__ = ["PreferenceModule"]

FLAGS = tuple(PreferenceSettings.__dataclass_fields__)


class PreferenceModule(OnionModule):
    """Trains LoRA adapters to prefer what voters preferred, and to stay near the model that the run starts from (DPO).

    That model, the reference, is the base model, with the adapters of --model.adapter if there are any.

    Args:
        beta: strength with which the model is kept near the reference: rewards are beta times the log-ratio of both.
        length_normalized: divide the log-ratio of an article by its number of tokens, so that long ones gain nothing by their
            length (sigmoid_norm in TRL); beta is then larger, such as 2.
        rpo_alpha: weight of the loss of the chosen articles, per token, which keeps them probable (RPO); 0 omits it.
        kwargs: the flags of `OnionModule`.
    """

    FIGURES: ClassVar[tuple[str, ...]] = ("train/loss", "train/reward_accuracy", "train/reward_margin")

    def __init__(
        self, beta: float = 0.1, length_normalized: bool = False, rpo_alpha: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.beta = beta
        self.length_normalized = length_normalized
        self.rpo_alpha = rpo_alpha
        self.resumed: dict[str, Any] | None = None  # the reference in the checkpoint that a run resumes from
        self.preferences.check()

    @property
    def preferences(self) -> PreferenceSettings:
        """The flags of the loss."""
        return PreferenceSettings(self.beta, self.length_normalized, self.rpo_alpha)

    def on_fit_start(self) -> None:
        """Find the reference's log-probabilities."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.pairs = pairs_digest(data)
        found = find_reference(self, data) if self.resumed is None else check_saved(self.resumed, data)
        for split, values in found.items():
            data.reference[split][:] = values

    def log_probs(self, batch: PairBatch) -> torch.Tensor:
        """Return the log-probability of each supervised token, (supervised,)."""
        head = self.language_model.get_output_embeddings()
        return -token_losses(self.hidden_states(batch), head, batch["predictors"], batch["targets"])

    def pair_figures(self, batch: PairBatch) -> PairFigures:
        """Compute the loss of each pair and its figures, summed over a micro-batch."""
        known = batch["reference"], batch["article_lengths"], batch["lengths"]
        return self.preferences.figures(self.log_probs(batch), *known)

    def shares(self, batch: PairBatch) -> torch.Tensor:  # type: ignore[override]
        """Return this micro-batch's share of loss, accuracy and margin, means over the pairs of the global batch, (3,)."""
        if not batch["row_lengths"]:
            return torch.stack([self.empty_loss(), *torch.zeros(2, device=self.device)])
        found, pairs = self.pair_figures(batch), batch["pairs"]
        loss = found.loss / pairs + self.rpo_alpha * found.chosen_loss / batch["supervised"]
        return torch.stack([loss, found.accuracy / pairs, found.margin / pairs])

    def on_validation_epoch_start(self) -> None:
        self.held_out: Any = HeldOutPairs(self.device, self.rpo_alpha)

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:  # type: ignore[override]
        with keeping_pace(self.pace):
            if batch["row_lengths"]:
                self.held_out.update(self.pair_figures(batch), batch["article_lengths"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        reference = {split: torch.from_numpy(data.reference[split]) for split in SPLITS}
        saved = checkpoint[CHECKPOINT_KEY]
        saved["training"] |= {f"model.{name}": getattr(self, name) for name in FLAGS}
        saved["reference"] = {"pairs": self.pairs, **reference}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the adapters match, and take the reference.

        Raises:
            OnionError: they do not match, or the checkpoint is not of a run that learned preferences.
        """
        super().on_load_checkpoint(checkpoint)
        self.resumed = checkpoint[CHECKPOINT_KEY].get("reference")
        if self.resumed is None:
            raise OnionError(
                "--ckpt_path: is not of a run with --data.pairs, so this one cannot resume from it; export it, and give the"
                " folder to --model.adapter to start from its adapters."
            )

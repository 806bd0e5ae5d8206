"""PreferenceDataModule: preference pairs as batches of token ids."""

from typing import TYPE_CHECKING, Any

import numpy as np

from onion_lightning.data.flags import check_length
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.preferences.batches import HeldOutPairSampler, PairBatches, PairSampler, sum_pairs
from onion_lightning.pretrained.locate import load_tokenizer

if TYPE_CHECKING:  # `datasets` takes half a second to import, and `--help` imports this module
    from onion_lightning.data.encoding import Encoded

__all__ = ["PreferenceDataModule"]


class PreferenceDataModule(OnionDataModule):
    """Reads, splits and tokenizes preference pairs, and distributes them over the ranks. Their texts are not cleaned.

    Flags that count rows count pairs; --data.max_length and --data.overflow are for each article.

    Args:
        pairs: JSON Lines, JSON or Parquet file with the columns prompt, chosen and rejected: what serve --export_votes wrote,
            or what TRL's DPOTrainer reads, as texts or as turns of chats. fit then learns these preferences (DPO), and
            --data.path is not read.
        kwargs: the flags of `OnionDataModule`.
    """

    cleans = False
    roles = ("chosen", "rejected")
    before_training = (
        "one forward pass over all pairs before the first step (the reference), a third of an epoch's work",
    )

    def __init__(self, pairs: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = self.pairs = pairs
        self.paths = [pairs]
        self.reference: dict[str, np.ndarray] = {}  # of each split: see `PairBatches`; the values are set by the module

    def encode(self) -> "Encoded":
        """Return the encoded pairs, and set the tokenizer."""
        from onion_lightning.data.preferences.encoding import encode_pairs  # late: it imports `datasets`
        from onion_lightning.data.preferences.reading import read_pairs

        check_length(self, self.context)
        self.tokenizer = load_tokenizer(self.base_model)
        settings = (self.tokenizer, self.max_length, self.overflow, self.fractions, self.pairs)
        found = encode_pairs(read_pairs(self.pairs), *settings)
        self.encoded = found.ids
        self.reference = {split: np.full(self.supervised(split).sum(), np.nan, np.float32) for split in found.ids}
        return found

    def supervised(self, split: str) -> np.ndarray:
        """Return the number of supervised tokens of each row of a split, (rows,)."""
        lengths = self.column(split, "length") - self.column(split, "prompt_length")
        return lengths.astype(np.int64)  # those of an empty split are floats

    def batches(self, split: str) -> PairBatches:
        """Return a split, indexed by micro-batch. Its reference may be filled in later."""
        return PairBatches(self.encoded[split], self.supervised(split), self.reference[split])

    def global_sampler(self, world_size: int = 1, rank: int = 0) -> PairSampler:
        lengths, chosen = sum_pairs(self.column("train", "length")), self.supervised("train")[0::2]
        return PairSampler(lengths, chosen, self.batch_size, self.global_batch_size, world_size, rank, self.seed)

    def held_out_sampler(self, lengths: Any, batch_size: int | None = None) -> HeldOutPairSampler:
        """Return the sampler of a split.

        Args:
            lengths: of the rows.
            batch_size: number of pairs in a batch.
        """
        assert self.trainer is not None
        ranks = self.trainer.world_size, self.trainer.global_rank
        return HeldOutPairSampler(sum_pairs(lengths), batch_size or self.batch_size, *ranks)

    def headlines_of(self, epoch: int, step: int, most: int = 8) -> list[str]:
        pairs = self.sampler.global_batches(epoch)[step]
        return [self.texts["train"][2 * int(pair)]["headline"] for pair in pairs[:most]]

    def identity(self) -> dict[str, str]:
        return {name.replace("data.path", "data.pairs"): value for name, value in super().identity().items()}

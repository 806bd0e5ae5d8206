"""Provides what the page needs from the corpus, where it is at hand: few-shot examples, and an index of copies."""

from dataclasses import dataclass, field

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError
from onion_lightning.evaluation.tasks import choose_examples, whole_examples
from onion_lightning.messages import tell
from onion_lightning.model.writing.copying import COPIED_WORDS, CopiedRun, CopyIndex

__all__ = ["TrainingRows", "read_training_rows"]

SHOTS = 3


@dataclass(frozen=True)
class TrainingRows:
    """What is known about the training rows.

    Attributes:
        examples: token ids of the few-shot examples; empty if there is no corpus.
        index: finds copies; None if there is no corpus.
    """

    examples: list[list[int]] = field(default_factory=list)
    index: CopyIndex | None = None

    def copied(self, article: str) -> CopiedRun | None:
        """Return the longest run of words that an article shares with a training article; None if it is short."""
        run = self.index.longest(article) if self.index else CopiedRun(0, "")
        return run if run.words >= COPIED_WORDS else None


def read_training_rows(datamodule: OnionDataModule) -> TrainingRows:
    """Read the corpus. Without it the page works, with neither few-shot articles nor the search for copies."""
    try:
        datamodule.encoded, datamodule.texts, datamodule.report = datamodule.encode()
    except OnionError as error:
        tell(f"Without few-shot articles and the search for copies: {error}")
        return TrainingRows()
    train = datamodule.texts["train"]
    index = CopyIndex(train["headline"], train["article"])
    return TrainingRows(choose_examples(datamodule, min(SHOTS, len(whole_examples(datamodule)))), index)

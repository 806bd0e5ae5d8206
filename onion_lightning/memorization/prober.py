"""The LightningModule that scores articles and continues their beginnings, with and without adapters."""

from typing import Any

from onion_lightning.evaluation.evaluator import TaskRunner
from onion_lightning.memorization.extraction import Hopeless
from onion_lightning.memorization.tasks import SPAN, MemorizationData, Probe
from onion_lightning.model.adapters.switches import adapters_enabled
from onion_lightning.model.decoding import Decoding, continue_ids
from onion_lightning.model.module import OnionModule
from onion_lightning.model.sharding.pace import keeping_pace
from onion_lightning.model.writing.losses import completion_losses
from onion_lightning.seeding import mix_seed

__all__ = ["Prober"]


class Prober(TaskRunner):
    """Runs the tasks of a memorization test, and adds their results to `data.values` and to the journal.

    Args:
        onion: base model and adapters.
        data: the tasks.
    """

    def __init__(self, onion: OnionModule, data: MemorizationData) -> None:
        super().__init__(onion)
        self.data = data
        written = onion.decoding
        self.decodings = {
            "greedy": Decoding(SPAN, temperature=0, repetition_penalty=1.0),
            "run": Decoding(SPAN, written.temperature, written.top_p, written.repetition_penalty),
        }

    def predict_step(self, task: Probe, batch_idx: int) -> int:
        """Run a task.

        Returns:
            The number of rows, because Lightning warns about None.

        Raises:
            NonFiniteError: a loss is not finite.
        """
        with keeping_pace(self.onion.pace):
            if task.rows:
                values = self.run(task)
                self.data.values[task.number] = values
                self.data.journal.add(task.number, values)
        return len(task.rows)

    def run(self, task: Probe) -> list[Any]:
        """Return the loss of each row, summed over its tokens, or the token ids that continue its beginning."""
        onion, prompts = self.onion, [row.prompt + row.body[: task.prefix] for row in task.rows]
        with adapters_enabled(onion.model, task.system == "tuned"):
            if not task.decoding:
                losses = completion_losses(onion.language_model, prompts, [row.completion for row in task.rows])
                self.check_finite(task, losses)
                return losses
            # The seed depends on the rows only: both systems sample with the same random numbers.
            seed = mix_seed(onion.seed, task.prefix, *(row.position for row in task.rows))
            decoding = self.decodings[task.decoding]
            truths = [row.body[task.prefix : task.prefix + SPAN] for row in task.rows]
            stop = Hopeless(truths, max(map(len, prompts)))
            rows = continue_ids(
                onion.language_model, onion.tokenizer, prompts, decoding, seed, stopping_criteria=[stop]
            )
            return [ids[: stop.lengths.get(at)] for at, (ids,) in enumerate(rows)]

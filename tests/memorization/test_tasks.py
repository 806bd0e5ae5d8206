"""Which articles count as training articles."""

import lightning.pytorch as pl
import pytest

from onion_lightning.data.prompt import encode_prompt
from onion_lightning.pretrained.locate import load_tokenizer

SEEN = set()


class Recorder(pl.Callback):
    """Remembers the rows that a run trains on."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        SEEN.update(tuple(ids.tolist()) for ids in batch["input_ids"].split(batch["row_lengths"]))


@pytest.mark.parametrize(
    "words", [("--trainer.limit_train_batches", "2", "--trainer.max_epochs", "3"), ("--trainer.max_steps", "2")]
)
def test_only_rows_that_the_run_has_seen_are_training_articles(run, memorize, refused, tiny_base, words):
    SEEN.clear()
    run("fit", *words, "--samples.count", "0", "--trainer.callbacks+=tests.memorization.test_tasks.Recorder")
    tokenizer = load_tokenizer(str(tiny_base))
    result, rows = memorize("--batch_size", "64")
    prompts = [tuple(encode_prompt(tokenizer, one["headline"])) for one in rows if one["group"] == "once"]
    assert sorted(next(ids for ids in SEEN if ids[: len(prompt)] == prompt) for prompt in prompts) == sorted(SEEN)
    assert 8 < len(SEEN) < 28
    assert any("rows of the training split that the run has not seen are left out" in note for note in result["notes"])
    # With another order of the rows, it is not known which ones it has seen.
    whole = refused("memorize", "--ckpt_path", "last", "--data.seed", "7", "--count", "500")
    few = refused("memorize", "--ckpt_path", "last", "--count", "500")
    assert f"was trained on {len(SEEN)} articles" in few
    assert whole.split("trained on ")[1] > few.split("trained on ")[1]

"""Ranks that differ are refused in one sentence, the same on all of them."""

import pytest

from onion_lightning.training.job.agreement import flags_to_compare


def test_places_and_what_belongs_to_a_machine_are_not_compared():
    flags = {"model.lora_rank": 8, "data.path": "a.csv", "checkpoint.dirpath": "x", "trainer.devices": "0,1"}
    flags |= {"trainer.logger.init_args.save_dir": "y", "trainer.max_epochs": 3, "trainer.default_root_dir": None}
    assert flags_to_compare(flags) == {"--model.lora_rank": "8", "--trainer.max_epochs": "3"}


def test_every_flag_that_changes_the_training_is_compared(fit_flags):
    compared = flags_to_compare(dict.fromkeys(fit_flags))
    data = "headline_column min_words val_fraction max_length batch_size global_batch_size seed near_duplicates"
    model = (
        "load_in lora_rank lora_alpha lora_dropout target_modules learning_rate optimizer seed gradient_checkpointing"
    )
    trainer = "max_epochs max_steps precision gradient_clip_val val_check_interval limit_train_batches"
    for group, names in (("data", data), ("model", model), ("trainer", trainer)):
        for name in names.split():
            assert f"--{group}.{name}" in compared
    assert "--seed_everything" in compared


@pytest.fixture(scope="session")
def fit_flags():
    """The names of the flags of `fit`, without dashes."""
    from inspect import signature

    import lightning.pytorch as pl

    from onion_lightning.data.module import OnionDataModule
    from onion_lightning.model.module import OnionModule

    groups = {"data": OnionDataModule, "model": OnionModule, "trainer": pl.Trainer}
    return [
        "seed_everything",
        *(f"{group}.{name}" for group, cls in groups.items() for name in signature(cls).parameters),
    ]

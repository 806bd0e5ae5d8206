"""Ranks that differ are refused in one sentence, the same on all of them."""

import socket

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.training.job.agreement import agree, flags_to_compare
from tests.several import on_ranks

HOST = socket.gethostname()


def compare(rank):
    def found(own, *remedy):
        try:
            return agree(own, *remedy)
        except OnionError as error:
            return str(error)

    return [
        found({"--a": "1", "--b": "2"}),
        found({"--a": "1", "--b": str(rank)}),
        found({"--a": str(rank), "--b": str(rank), "--c": "3"}, "use the same"),
        found({"--a": "1"} if rank else {}),
    ]


def test_the_first_difference_is_named_with_ranks_machines_and_both_values():
    first, second, third = on_ranks(compare, world=3)
    assert first == second == third
    places = [f"rank {rank} on {HOST}" for rank in range(2)]
    assert first == [
        None,
        f"--b: is 0 for {places[0]}, but 1 for {places[1]}; give all ranks the same value.",
        f"--a: is 0 for {places[0]}, but 1 for {places[1]} (1 more differ); use the same.",
        f"--a: is None for {places[0]}, but 1 for {places[1]}; give all ranks the same value.",
    ]


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

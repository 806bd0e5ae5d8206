"""The right name for an unknown flag or command."""

import pytest

from onion_lightning.cli.parsing.suggestions import FOREIGN_NAMES, suggest_command, suggest_flag

COMMANDS = (
    "fit",
    "validate",
    "test",
    "predict",
    "evaluate",
    "memorize",
    "attend",
    "export",
    "plan",
    "preview",
    "serve",
    "verify",
)


def test_every_suggested_flag_exists(fit_flags):
    assert {right.split(" ")[0] for right in FOREIGN_NAMES} <= {*fit_flags, "data.pairs"}  # which chooses the flags


def test_no_foreign_name_has_two_meanings():
    names = [name for names in FOREIGN_NAMES.values() for name in names.split()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("model.r", "give --model.lora_rank"),
        ("lora_r", "give --model.lora_rank"),
        ("lora_alpha", "give --model.lora_alpha"),
        ("alpha", "give --model.lora_alpha"),
        ("per_device_train_batch_size", "give --data.batch_size"),
        ("num_train_epochs", "give --trainer.max_epochs"),
        ("learning_rate", "give --model.learning_rate"),
        ("lr", "give --model.learning_rate"),
        ("max_seq_length", "give --data.max_length"),
        ("gradient_accumulation_steps", "give --data.global_batch_size"),
        ("bf16", "give --trainer.precision bf16-mixed"),
        ("fp16", "give --trainer.precision 16-mixed"),
        ("load_in_8bit", "give --model.load_in int8"),
        ("load_in_4bit", "give --model.load_in nf4"),
        ("model_name_or_path", "give --model.base_model"),
        ("output_dir", "give --checkpoint.dirpath"),
        ("resume_from_checkpoint", "give --ckpt_path"),
        ("seed", "give --seed_everything"),
        ("warmup_ratio", "give --model.warmup_ratio"),
        ("trainer.max_epoch", "did you mean --trainer.max_epochs?"),
        ("model.lora_rnk", "did you mean --model.lora_rank?"),
        ("modle.lora_dropout", "give --model.lora_dropout"),
        ("top_p", "give --model.top_p"),
        ("zzz", ""),
    ],
)
def test_a_foreign_or_mistyped_name_leads_to_the_right_flag(fit_flags, name, remedy):
    assert suggest_flag(name, fit_flags) == remedy


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("train", "did you mean fit?"),
        ("predcit", "did you mean predict?"),
        ("x", f"give one of {', '.join(COMMANDS)}."),
    ],
)
def test_a_foreign_or_mistyped_command_leads_to_the_right_one(name, remedy):
    assert suggest_command(name, COMMANDS) == remedy

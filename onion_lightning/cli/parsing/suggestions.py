"""Suggests the right name for an unknown flag, YAML key or command."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

__all__ = ["suggest_command", "suggest_flag"]

# Names of peft, Hugging Face's Trainer, axolotl and LLaMA-Factory, with the flag and, where it follows, the value here.
FOREIGN_NAMES = {
    "model.base_model": "base_model_name_or_path model model_id model_name model_name_or_path pretrained_model_name_or_path",
    "model.load_in": "load_in quantization quantization_bit",
    "model.load_in int8": "load_in_8bit",
    "model.load_in nf4": "bnb_4bit_quant_type load_in_4bit",
    "model.lora_rank": "lora_dim lora_r r rank",
    "model.lora_alpha": "alpha lora_alpha",
    "model.lora_dropout": "dropout lora_dropout",
    "model.target_modules": "lora_modules lora_target lora_target_modules target_modules",
    "model.use_rslora": "peft_use_rslora rslora",
    "model.use_dora": "dora peft_use_dora",
    "model.init_lora_weights": "peft_init_lora_weights pissa_init",
    "model.optimizer": "optim optimizer",
    "model.optimizer adamw_8bit": "adamw_bnb_8bit use_8bit_optimizer",
    "model.lora_plus_ratio": "loraplus_lr_ratio loraplus_ratio",
    "model.neftune_alpha": "neftune_noise_alpha noise_alpha",
    "model.adapter": "adapter_name_or_path adapter_path lora_model_dir lora_path",
    "model.learning_rate": "learning_rate lr",
    "model.weight_decay": "wd weight_decay",
    "model.warmup_ratio": "warmup_ratio warmup_steps",
    "model.gradient_checkpointing": "use_gradient_checkpointing",
    "model.max_new_tokens": "max_new_tokens max_tokens",
    "data.path": "data_path dataset dataset_name datasets train_file",
    "data.pairs": "dpo_file pair preference_dataset preferences votes",
    "data.batch_size": "micro_batch_size per_device_eval_batch_size per_device_train_batch_size train_batch_size",
    "data.global_batch_size": "accumulate_grad_batches gradient_accumulation_steps",
    "data.max_length": "cutoff_len max_length max_seq_len max_seq_length model_max_length sequence_len",
    "data.num_workers": "dataloader_num_workers",
    "data.val_fraction": "val_set_size validation_split",
    "trainer.max_epochs": "epochs n_epochs num_epochs num_train_epochs",
    "trainer.devices": "gpus n_gpu num_gpus num_processes",
    "trainer.precision": "dtype mixed_precision torch_dtype",
    "trainer.precision bf16-mixed": "bf16",
    "trainer.precision 16-mixed": "fp16",
    "trainer.gradient_clip_val": "clip_grad gradient_clipping max_grad_norm",
    "trainer.log_every_n_steps": "logging_steps",
    "trainer.val_check_interval": "eval_steps",
    "trainer.logger": "report_to",
    "checkpoint.dirpath": "default_root_dir output_dir save_dir",
    "checkpoint.every_n_train_steps": "save_steps",
    "ckpt_path": "checkpoint_path resume resume_from_checkpoint",
    "seed_everything": "random_seed seed",
}
NEEDS_PAIRS = ("model.beta", "model.length_normalized", "model.rpo_alpha")
RIGHT_NAMES = {name: right for right, names in FOREIGN_NAMES.items() for name in names.split()}

OTHER_COMMANDS = {"train": "fit", "finetune": "fit", "generate": "predict", "write": "predict", "eval": "evaluate"}


def suggest_flag(name: str, flags: Collection[str]) -> str:
    """Return the remedy for an unknown flag, such as "give --model.lora_rank"; empty if no flag is near.

    Args:
        name: the unknown name without dashes, such as `model.r`.
        flags: the names of the command's flags, without dashes.
    """
    if name in NEEDS_PAIRS:
        return "give --data.pairs as well, with which fit learns preferences"
    last = name.rpartition(".")[2]
    right = RIGHT_NAMES.get(last, "")
    if right.split(" ")[0] in {*flags, "data.pairs"}:
        return f"give --{right}"
    if same := [flag for flag in flags if flag.rpartition(".")[2] == last]:
        return f"give {listed(same)}"
    nearest = get_close_matches(name, flags, n=2, cutoff=0.9)
    ends = {flag.rpartition(".")[2]: flag for flag in flags}
    nearest += [ends[end] for end in get_close_matches(last, ends, n=2, cutoff=0.75)]
    return f"did you mean {listed(dict.fromkeys(nearest))}?" if nearest else ""


def suggest_command(name: str, commands: Collection[str]) -> str:
    """Return the remedy for an unknown command."""
    nearest = OTHER_COMMANDS.get(name) or next(iter(get_close_matches(name, commands, n=1)), None)
    return f"did you mean {nearest}?" if nearest else f"give one of {', '.join(commands)}."


def listed(flags: Iterable[str]) -> str:
    return " or ".join(f"--{flag}" for flag in flags)

"""Compares one epoch of training with TRL's SFTTrainer: speed, peak memory, the loss that it reaches, and the weights' size.

    python tests/benchmarks/train.py
    python tests/benchmarks/train.py --articles 48 --rounds 1
    python tests/benchmarks/train.py --search

The demo model, LoRA of rank 8 on q_proj and v_proj, the same token ids, learning rate and schedule on both sides, a step for
every four articles. Speed is tokens per second without padding, over all steps of the epoch; loading is not timed.
"16 bit" is float32 on a CPU without bfloat16. Peak memory is that of the process (VmHWM) at the end of training. The held-out
loss is computed for both by one function, afterwards. `--search` measures the settings of TRL one after another instead.
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from contenders import Figures, Ratio, main, status
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel, TrainerCallback

from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import Example, encode_examples
from onion_lightning.model.base_model import best_precision, has_bfloat16
from onion_lightning.model.module import OnionModule
from onion_lightning.pretrained.locate import load_tokenizer, locate

CPU = torch.device("cpu")
LENGTH, ROWS, RATE, WARMUP, HELD_OUT = 512, 4, 1e-3, 0.1, 16
LORA = LoraConfig(
    r=8, lora_alpha=16, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", bias="none"
)


class Setting(NamedTuple):
    """How TRL trains.

    Attributes:
        rows: in a micro-batch; fewer if several articles are packed into each.
        batching: padded, grouped (rows of similar length, padded), flat (`padding_free`) or packed (`packing`).
        adapters: dtype of the adapters; SFTTrainer makes them bfloat16 if the weights are quantized.
        checkpointing: whether activations are computed again in the backward pass.
    """

    rows: int = ROWS
    batching: str = "padded"
    adapters: torch.dtype = torch.float32
    checkpointing: bool = False


SEARCHED = {
    "padded": Setting(),
    "grouped": Setting(batching="grouped"),
    "flat": Setting(batching="flat"),
    "packed": Setting(rows=2, batching="packed"),
    "bfloat16 adapters": Setting(adapters=torch.bfloat16),
    "checkpointing": Setting(checkpointing=True),
}
BEST = {"8": SEARCHED["grouped"], "16": SEARCHED["grouped"]}


# Rows


def sample_texts() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the training and the held-out rows of the packaged corpus, cleaned."""
    data = OnionDataModule(path="sample", base_model="demo", val_fraction=0.1, test_fraction=0.0, max_length=LENGTH)
    texts = data.encode().texts
    return list(texts["train"]), list(texts["validation"])


def encode(rows: list[dict[str, str]]) -> list[Example]:
    """Return the token ids of rows, as the data module encodes them."""
    headlines, articles = [row["headline"] for row in rows], [row["article"] for row in rows]
    found = encode_examples(load_tokenizer("demo"), headlines, articles, LENGTH, "cut")
    return [one for one in found if one is not None]


def held_out_loss(base: PreTrainedModel, examples: list[Example]) -> float:
    """Return the mean of -log p over the tokens of held-out articles, one row at a time, in nats."""
    base.eval()
    loss, count = 0.0, 0
    precision = torch.bfloat16 if has_bfloat16(CPU) else torch.float32
    with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        for ids, prompt, _ in examples:
            hidden = base.get_decoder()(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state
            logits = base.get_output_embeddings()(hidden[0, prompt - 1 : -1]).float()  # (supervised, vocabulary)
            loss += torch.nn.functional.cross_entropy(logits, torch.tensor(ids[prompt:]), reduction="sum").item()
            count += len(ids) - prompt
    return loss / count


def weight_bytes(base: torch.nn.Module) -> int:
    """Return the memory of all frozen weights, with their scales."""
    tensors = {id(one): one for one in (*base.parameters(), *base.buffers()) if not one.requires_grad}
    scales = [getattr(one, "SCB", None) for one in tensors.values()]
    storages = [one.untyped_storage() for one in (*tensors.values(), *scales) if isinstance(one, torch.Tensor)]
    return sum({one.data_ptr(): one.nbytes() for one in storages}.values())


def figures(base: PreTrainedModel, seconds: float, train: list[Example], held_out: list[Example]) -> Figures:
    peak = status("VmHWM") / 1e9
    return {
        "tokens/s": sum(len(one.input_ids) for one in train) / seconds,
        "peak GB": peak,
        "held-out loss": held_out_loss(base, held_out[:HELD_OUT]),
        "weights GB": weight_bytes(base) / 1e9,
    }


# Contenders


class LightningClock(pl.Callback):
    """Times the steps of an epoch, from the first batch to the end of the last optimizer step."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seconds = time.perf_counter() - self.began


class TransformersClock(TrainerCallback):
    """Times the same for a Trainer of transformers."""

    began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.seconds = time.perf_counter() - self.began


def ours(args: argparse.Namespace, bits: str) -> Figures:
    """Train with this project's module, data module and a Trainer that is configured as in `fit`."""
    rows, held_out = sample_texts()
    rows = rows[: args.articles]
    module = OnionModule("demo", "int8" if bits == "8" else "none", learning_rate=RATE, warmup_ratio=WARMUP, seed=0)
    clock = LightningClock()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision=best_precision(CPU),
        max_epochs=1,
        gradient_clip_val=1.0,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        write_rows(file, rows)
        data = OnionDataModule(
            path=str(file),
            base_model="demo",
            val_fraction=0.0,
            test_fraction=0.0,
            max_length=LENGTH,
            batch_size=ROWS,
            global_batch_size=ROWS,
            seed=0,
        )
        trainer.fit(module, data)
    assert data.report.kept == len(rows)
    return figures(module.language_model, clock.seconds, encode(rows), encode(held_out))


def write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["headline", "article"])
        writer.writerows([row["headline"], row["article"]] for row in rows)


def documented_model(source: str, bits: str, checkpointing: bool) -> Any:
    """Load a model with adapters as the documents of transformers and peft advise."""
    quantization = BitsAndBytesConfig(load_in_8bit=True) if bits == "8" else None
    dtype = torch.bfloat16 if has_bfloat16(CPU) else torch.float32
    base = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, quantization_config=quantization, device_map={"": "cpu"}
    )
    if bits == "8":
        base = prepare_model_for_kbit_training(base, checkpointing, {"use_reentrant": False} if checkpointing else None)
    torch.manual_seed(0)
    return get_peft_model(base, LORA)


def trl(args: argparse.Namespace, bits: str, setting: Setting) -> Figures:
    """Train with TRL's SFTTrainer on the same token ids and the same supervised positions."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows, held_out = sample_texts()
    train = encode(rows[: args.articles])
    masks = [[0] * prompt + [1] * (len(ids) - prompt) for ids, prompt, _ in train]
    table = {"input_ids": [one.input_ids for one in train], "completion_mask": masks}
    clock = TransformersClock()
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=setting.rows,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            warmup_steps=WARMUP,
            weight_decay=0.0,
            max_grad_norm=1.0,
            max_length=None if setting.batching == "flat" else LENGTH,
            packing=setting.batching == "packed",
            padding_free=setting.batching == "flat",
            train_sampling_strategy="group_by_length" if setting.batching == "grouped" else "random",
            completion_only_loss=True,
            gradient_checkpointing=setting.checkpointing,
            bf16=has_bfloat16(CPU),
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        )
        trainer = SFTTrainer(
            documented_model(locate("demo"), bits, setting.checkpointing),
            config,
            train_dataset=Dataset.from_dict(table),
            processing_class=load_tokenizer("demo"),
            callbacks=[clock],
        )
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(setting.adapters)
        trainer.train()
    return figures(trainer.model.get_base_model(), clock.seconds, train, encode(held_out))


# The command

CONTENDERS = {f"ours {bits} bit": lambda args, bits=bits: ours(args, bits) for bits in BEST}
CONTENDERS |= {f"TRL {bits} bit": lambda args, bits=bits: trl(args, bits, BEST[bits]) for bits in BEST}
CANDIDATES = {
    f"TRL {bits} bit, {name}": lambda args, bits=bits, setting=setting: trl(args, bits, setting)
    for bits in BEST
    for name, setting in SEARCHED.items()
}
RATIOS = [
    Ratio("tokens/s", "ours 8 bit", "TRL 8 bit", 2.5),
    Ratio("tokens/s", "ours 16 bit", "TRL 16 bit", 2.0),
    Ratio("peak GB", "ours 8 bit", "TRL 8 bit", 0.8, "at most"),
    Ratio("peak GB", "ours 16 bit", "TRL 16 bit", 0.8, "at most"),
    Ratio("held-out loss", "ours 8 bit", "TRL 8 bit", 0.01, "within"),
    Ratio("held-out loss", "ours 16 bit", "TRL 16 bit", 0.01, "within"),
    Ratio("tokens/s", "ours 8 bit", "ours 16 bit", 0.95),
    Ratio("weights GB", "ours 8 bit", "ours 16 bit", 0.55, "at most"),
]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=int, default=200, help="length of the epoch")
    parser.add_argument("--search", action="store_true", help="measure the settings of TRL, without targets")
    return parser


if __name__ == "__main__":
    searching = "--search" in sys.argv
    bits16 = f'"16 bit" is {"bfloat16" if has_bfloat16(CPU) else "float32: this CPU has no bfloat16"}'
    sys.exit(main(arguments(), CANDIDATES if searching else CONTENDERS, [] if searching else RATIOS, bits16))

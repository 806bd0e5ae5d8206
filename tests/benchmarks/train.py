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
import sys
import tempfile
import time
from typing import Any, NamedTuple

import torch
from clocked import fit
from contenders import Figures, Ratio, main
from documented import BFLOAT16, BITS, DTYPE, LOAD_IN, NOTE, documented_model
from process_memory import status
from transformers import PreTrainedModel, TrainerCallback

from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import Example, encode_examples
from onion_lightning.model.module import OnionModule
from onion_lightning.pretrained.locate import load_tokenizer, locate

LENGTH, ROWS, RATE, WARMUP, HELD_OUT = 512, 4, 1e-3, 0.1, 16


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
# `--search --articles 16 --rounds 1`, 8 bit, tokens per second on two shared cores of an EPYC (AVX2), 2026-11-26: padded
# 123, grouped 121, flat 118, packed 118, bfloat16 adapters 111, checkpointing 100. The first four do not differ beyond the
# noise of one round; grouped is expected to pad less in a longer epoch. 16 bit has not been searched.
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
    with torch.inference_mode(), torch.autocast("cpu", DTYPE, enabled=BFLOAT16):
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


def figures(base: PreTrainedModel, seconds: float, peak: int, train: list[Example], held_out: list[Example]) -> Figures:
    return {
        "tokens/s": sum(len(one.input_ids) for one in train) / seconds,
        "peak GB": peak / 1e9,
        "held-out loss": held_out_loss(base, held_out[:HELD_OUT]),
        "weights GB": weight_bytes(base) / 1e9,
    }


# Contenders


class TransformersClock(TrainerCallback):
    """Times the steps of a Trainer of transformers, from the first batch to the end of the last step."""

    began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.seconds = time.perf_counter() - self.began


def ours(args: argparse.Namespace, bits: str) -> Figures:
    rows, held_out = sample_texts()
    rows = rows[: args.articles]
    module = OnionModule("demo", LOAD_IN[bits], learning_rate=RATE, warmup_ratio=WARMUP, seed=0)
    clock = fit(module, [(row["headline"], row["article"]) for row in rows], LENGTH, ROWS)
    peak = max(clock.loading, clock.training)
    return figures(module.language_model, clock.total, peak, encode(rows), encode(held_out))


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
            bf16=BFLOAT16,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=0,
        )
        trainer = SFTTrainer(
            documented_model(locate("demo"), bits, checkpointing=setting.checkpointing),
            config,
            train_dataset=Dataset.from_dict(table),
            processing_class=load_tokenizer("demo"),
            callbacks=[clock],
        )
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(setting.adapters)
        trainer.train()
    return figures(trainer.model.get_base_model(), clock.seconds, status("VmHWM"), train, encode(held_out))


# The command

CONTENDERS = {f"ours {bits} bit": lambda args, bits=bits: ours(args, bits) for bits in BITS}
CONTENDERS |= {f"TRL {bits} bit": lambda args, bits=bits: trl(args, bits, BEST[bits]) for bits in BITS}
CANDIDATES = {
    f"TRL {bits} bit, {name}": lambda args, bits=bits, setting=setting: trl(args, bits, setting)
    for bits in BITS
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
    sys.exit(main(arguments(), CANDIDATES if searching else CONTENDERS, [] if searching else RATIOS, NOTE))

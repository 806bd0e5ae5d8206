"""Compares `predict` with transformers' pipeline, one headline at a time, and with `generate` in batches of 16.

    python tests/benchmarks/predict.py
    python tests/benchmarks/predict.py --headlines 16 --new_tokens 40 --rounds 1

The demo model with LoRA of rank 8 on q_proj and v_proj, sampling with the same settings. The end of an article is suppressed,
so that all have the same number of tokens. Speed is generated tokens per second over all headlines; loading is not timed. The
pipeline writes for `--one_by_one` headlines only, because each takes the same time. The first token is that of one headline
alone, median over seven.
"""

import argparse
import csv
import statistics
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from contenders import Figures, Ratio, main
from documented import BITS, CPU, LOAD_IN, NOTE, documented_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase, pipeline
from transformers.generation.streamers import BaseStreamer

from onion_lightning.data.files.sources import SAMPLE
from onion_lightning.data.module import OnionDataModule
from onion_lightning.data.prompt import format_prompt
from onion_lightning.model.articles.record import Article
from onion_lightning.model.base_model import best_precision
from onion_lightning.model.decoding import Decoding
from onion_lightning.model.module import OnionModule
from onion_lightning.model.writing.best_of import write_articles
from onion_lightning.pretrained.locate import load_tokenizer, locate

BATCH, TRIES = 16, 7
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.1}


def headlines(args: argparse.Namespace) -> list[str]:
    with SAMPLE.open(newline="", encoding="utf-8") as stream:
        return [row["Title"] for row in csv.DictReader(stream)][: args.headlines]


def untrivial(model: torch.nn.Module) -> None:
    """Give the adapters an effect: new ones add zero."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)


def figures(tokens: int, articles: int, seconds: float, first: float | None = None) -> Figures:
    found = {"tokens/s": tokens / seconds, "tokens per article": tokens / articles}
    return found if first is None else found | {"first token s": first}


class FirstToken(BaseStreamer):
    """Notes when the first new token arrives; `generate` puts the prompt before it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.began = time.perf_counter()

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter() - self.began)

    def end(self) -> None:
        pass

    @property
    def seconds(self) -> float:
        return self.times[1]


# Contenders


class Unending(OnionModule):
    """Writes articles that do not end before `max_new_tokens`."""

    def write(self, headlines: list[str], seed: int, **options: Any) -> list[list[Article]]:
        return super().write(headlines, seed, min_new_tokens=self.decoding.max_new_tokens, **options)


class Clock(pl.Callback):
    """Times `predict` without loading."""

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        untrivial(pl_module)
        self.began = time.perf_counter()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = time.perf_counter() - self.began


def ours(args: argparse.Namespace, bits: str) -> Figures:
    """Write with `Trainer.predict`, as the command does; the batches are the data module's own."""
    module, clock = Unending("demo", LOAD_IN[bits], max_new_tokens=args.new_tokens, seed=0), Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision=best_precision(CPU),
        callbacks=[clock],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    data = OnionDataModule(base_model="demo", headlines=headlines(args), predict_batch_size=args.batch_size)
    batches = trainer.predict(module, datamodule=data)
    articles = [article for batch in batches or [] for article in batch.articles]

    def first(headline: str) -> float:
        streamer = FirstToken()
        write_articles(module.language_model, module.tokenizer, [headline], Decoding(2), streamer=streamer)
        return streamer.seconds

    return figures(sum(one.tokens for one in articles), len(articles), clock.seconds, first_token(first, args))


def first_token(once: Any, args: argparse.Namespace) -> float:
    tries = [once(headline) for headline in headlines(args)[:TRIES]]
    return statistics.median(tries)


def theirs(bits: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model with adapters for inference."""
    model = documented_model(locate("demo"), bits, training=False).get_base_model().eval()
    untrivial(model)
    tokenizer = load_tokenizer("demo")
    tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def one_by_one(args: argparse.Namespace, bits: str) -> Figures:
    """Write some of the headlines with transformers' pipeline."""
    model, tokenizer = theirs(bits)
    write = pipeline("text-generation", model=model, tokenizer=tokenizer)
    prompts = [format_prompt(headline) for headline in headlines(args)[: args.one_by_one]]
    write(prompts[0], max_new_tokens=2)
    began = time.perf_counter()
    for prompt in prompts:
        write(prompt, max_new_tokens=args.new_tokens, min_new_tokens=args.new_tokens, **SAMPLING)
    return figures(args.new_tokens * len(prompts), len(prompts), time.perf_counter() - began)


def in_batches(args: argparse.Namespace, bits: str) -> Figures:
    """Write with `generate` in batches of 16, in the given order."""
    model, tokenizer = theirs(bits)
    prompts = [format_prompt(headline) for headline in headlines(args)]

    def write(texts: list[str], count: int, **more: Any) -> torch.Tensor:
        inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt").to(model.device)
        output = model.generate(
            **inputs,
            max_new_tokens=count,
            min_new_tokens=count,
            pad_token_id=tokenizer.pad_token_id,
            **SAMPLING,
            **more,
        )
        return output[:, inputs["input_ids"].shape[1] :]

    def first(headline: str) -> float:
        streamer = FirstToken()
        write([format_prompt(headline)], 2, streamer=streamer)
        return streamer.seconds

    write(prompts[:1], 2)
    began, tokens = time.perf_counter(), 0
    for at in range(0, len(prompts), BATCH):
        tokens += write(prompts[at : at + BATCH], args.new_tokens).numel()
    return figures(tokens, len(prompts), time.perf_counter() - began, first_token(first, args))


# The command

KINDS = {"ours": ours, "pipeline": one_by_one, "generate": in_batches}
CONTENDERS = {
    f"{name} {bits} bit": lambda args, bits=bits, run=run: run(args, bits)
    for bits in BITS
    for name, run in KINDS.items()
}
RATIOS = [
    Ratio("tokens/s", "ours 8 bit", "pipeline 8 bit", 8),
    Ratio("tokens/s", "ours 16 bit", "pipeline 16 bit", 8),
    Ratio("tokens/s", "ours 8 bit", "generate 8 bit", 2),
    Ratio("tokens/s", "ours 16 bit", "generate 16 bit", 1.3),
    Ratio("tokens/s", "ours 8 bit", "ours 16 bit", 1),
    Ratio("first token s", "ours 8 bit", "generate 8 bit", 1, "at most"),
    Ratio("first token s", "ours 16 bit", "generate 16 bit", 1, "at most"),
]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headlines", type=int, default=64)
    parser.add_argument("--one_by_one", type=int, default=6, help="headlines that the pipeline writes for")
    parser.add_argument("--batch_size", type=int, default=32, help="headlines that ours writes for at a time")
    parser.add_argument("--new_tokens", type=int, default=160, help="tokens per article")
    return parser


if __name__ == "__main__":
    sys.exit(main(arguments(), CONTENDERS, RATIOS, NOTE))

"""OnionModule: a frozen base model in 8 bit, LoRA adapters in float32, AdamW, and a loss that is a mean over tokens."""

import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import lightning.pytorch as pl
import pynvml
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from peft import PeftModel
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup

from onion_lightning.data.collate import IGNORE, Batch, HeadlineBatch
from onion_lightning.errors import NonFiniteError, OnionError, check_range
from onion_lightning.model.adapters import (
    ADAPTER_FLAGS,
    CHECKPOINT_KEY,
    check_adapters,
    insert_adapters,
    trainable_names,
)
from onion_lightning.model.base_model import LoadIn, load_model, use_fast_8bit
from onion_lightning.model.decoding import Article, Decoding, write_articles
from onion_lightning.model.seeding import mix_seed
from onion_lightning.pretrained.source import architecture, load_tokenizer
from onion_lightning.private_api import attached_trainer

__all__ = ["OnionModule", "Written"]

log = logging.getLogger(__name__)

TRAINING_FLAGS = ("learning_rate", "weight_decay", "warmup_ratio")


class Written(dict[str, Any]):
    """A predicted batch: `index` (of the batch, over all ranks) and `articles`, the records of the articles file."""


class OnionModule(pl.LightningModule):
    """Fine-tunes a causal language model with LoRA, and writes articles with it.

    Args:
        base_model: demo, a local directory in Hugging Face's format, or a hub id.
        load_in: how the frozen weights are held: int8, nf4 (4 bit), or none (16 bit; 32 bit on the CPU).
        lora_rank: rank of the adapters.
        lora_alpha: adapters are scaled by lora_alpha / lora_rank.
        lora_dropout: dropout before the adapters, in training.
        target_modules: linear layers that get an adapter.
        learning_rate: highest learning rate, after warm-up.
        weight_decay: AdamW's, on the adapters.
        warmup_ratio: share of the steps in which the learning rate rises; it falls as a cosine after that.
        gradient_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        max_new_tokens: predict: most tokens of an article.
        temperature: predict: 0 takes the likeliest token each time.
        top_p: predict: sample among the likeliest tokens that hold this much probability.
        repetition_penalty: predict: above 1 makes tokens that the article already used less likely.
        candidates: predict: articles for each headline.
        seed: of adapters, dropout and sampling; by default --seed_everything.
    """

    def __init__(
        self,
        base_model: str = "NousResearch/Llama-2-7b-hf",
        load_in: LoadIn = "int8",
        lora_rank: int = 8,
        lora_alpha: int = 16,
        lora_dropout: float = 0.05,
        target_modules: list[str] = ["q_proj", "v_proj"],  # noqa: B006 - shown as the default in --help, never changed
        learning_rate: float = 3e-4,
        weight_decay: float = 0.0,
        warmup_ratio: float = 0.03,
        gradient_checkpointing: bool = False,
        max_new_tokens: int = 300,
        temperature: float = 0.8,
        top_p: float = 0.95,
        repetition_penalty: float = 1.1,
        candidates: int = 1,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.base_model = base_model
        self.load_in = load_in
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.target_modules = list(target_modules)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.gradient_checkpointing = gradient_checkpointing
        self.decoding = Decoding(max_new_tokens, temperature, top_p, repetition_penalty, candidates)
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.strict_loading = False  # checkpoints hold adapters only
        self.model: PeftModel | None = None
        self.epoch_began = 0  # global step at which the current epoch began
        check_flags(self)

    def configure_model(self) -> None:
        """Load the base model and insert adapters, on this rank's own device; without a Trainer, on the CPU."""
        trainer = attached_trainer(self)
        self.load_base(torch.device("cpu") if trainer is None else trainer.strategy.root_device)

    def load_base(self, device: torch.device) -> None:
        """Load the base model on a device and insert adapters. A second call does nothing.

        Raises:
            OnionError: there is no such model, or it has no such layers to adapt.
        """
        if self.model is not None:
            return
        self.tokenizer = load_tokenizer(self.base_model)
        base = load_model(self.base_model, self.load_in, device)
        self.architecture = architecture(base.config)
        torch.manual_seed(mix_seed(self.seed))
        self.model = insert_adapters(
            base, self.lora_rank, self.lora_alpha, self.lora_dropout, self.target_modules, self.base_model
        )
        if self.gradient_checkpointing:
            base.enable_input_require_grads()  # the base is frozen: without it no gradient would reach the adapters
            base.activation_checkpointing_enable({"use_reentrant": False})
        self.train()
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        layers = ", ".join(self.target_modules)
        log.info(
            "%s in %s; LoRA rank %d on %s trains %s numbers.",
            self.base_model,
            self.load_in,
            self.lora_rank,
            layers,
            f"{trained:,}",
        )

    def cpu(self) -> "OnionModule":
        """Stay where it is: Lightning calls this when a run ends, and 7 GB a rank would go to the host's memory."""
        return self

    @property
    def language_model(self) -> PreTrainedModel:
        """The model with its adapters, as transformers knows it."""
        assert self.model is not None
        return cast(PreTrainedModel, self.model.get_base_model())

    def train(self, mode: bool = True) -> "OnionModule":
        super().train(mode)
        use_fast_8bit(self)
        return self

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Hidden states (rows, length, hidden size) of token ids (rows, length)."""
        decoder = self.language_model.get_decoder()
        output = decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        return cast(torch.Tensor, output.last_hidden_state)

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Sum over the supervised tokens of a micro-batch of -log p, in nats. An empty micro-batch gives 0."""
        if len(batch["input_ids"]) == 0:
            return sum(
                (p.sum() * 0.0 for p in self.parameters() if p.requires_grad), torch.zeros((), device=self.device)
            )
        hidden = self(batch["input_ids"], batch["attention_mask"])  # (rows, length, hidden)
        targets = batch["labels"][:, 1:]
        supervised = targets != IGNORE
        # The head's logits are by far the largest tensor: only for positions that count.
        logits = self.language_model.get_output_embeddings()(hidden[:, :-1][supervised])  # (supervised, vocabulary)
        return F.cross_entropy(logits.float(), targets[supervised], reduction="sum")

    # Training

    def on_train_epoch_start(self) -> None:
        self.epoch_began = self.trainer.global_step

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Lightning saves no random state: dropout depends on the place in the run alone, so that a resumed run repeats it.
        torch.manual_seed(mix_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.step_loss = torch.zeros((), device=self.device)
            self.step_started = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """A micro-batch's share of the mean over all supervised tokens of the global batch."""
        share = self.loss_sum(batch) / batch["supervised"]
        self.step_loss += share.detach()
        # Lightning divides by the accumulation and DDP by the ranks: undo both (transformers#34191).
        return share * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.scale_before = self.scale()
        self.log("learning_rate", optimizer.param_groups[0]["lr"])
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.gradient_norm = torch.nn.utils.get_total_norm(gradients)
        loss = self.trainer.strategy.reduce(self.step_loss, reduce_op="sum")
        self.check_finite(loss)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/grad_norm", self.gradient_norm)

    def check_finite(self, loss: torch.Tensor) -> None:
        scaled = (
            getattr(self.trainer.precision_plugin, "scaler", None) is not None
        )  # the scaler skips such steps itself
        step = self.trainer.global_step - self.epoch_began
        if not loss.isfinite() or not (scaled or self.gradient_norm.isfinite()):
            raise NonFiniteError(
                f"--model.learning_rate {self.learning_rate}: at optimizer step {self.trainer.global_step + 1} (epoch"
                f" {self.current_epoch}) the loss is {loss.item():.4g} and the gradient norm {self.gradient_norm.item():.4g};"
                " no checkpoint was overwritten. Lower the learning rate, or look at the step's rows:"
                f" {'; '.join(self.trainer.datamodule.headlines_of(self.current_epoch, step))}."  # type: ignore[attr-defined]
            )

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches:
            return
        self.log("tokens/s", batch["tokens"] / (time.perf_counter() - self.step_started), prog_bar=True)
        if self.device.type == "cuda":
            self.log("gpu/memory_gb", torch.cuda.max_memory_reserved(self.device) / 1e9)
            if (utilization := gpu_utilization(self.device)) is not None:
                self.log("gpu/utilization", utilization)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW over the adapters; a cosine schedule with warm-up, a step at each step of the optimizer."""
        trainable = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=self.learning_rate, weight_decay=self.weight_decay)
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise OnionError(
                f"--trainer.max_epochs {self.trainer.max_epochs}: the learning rate's schedule needs an end; give"
                " --trainer.max_epochs or --trainer.max_steps."
            )
        steps = int(steps)
        schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(self.warmup_ratio * steps), steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedule, but not where fp16's scaler skipped the optimizer's step (it then lowered its scale)."""
        if self.scale() >= self.scale_before:
            scheduler.step()

    def scale(self) -> float:
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return float(scaler.get_scale()) if scaler is not None else 0.0

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        self.held_out = torch.zeros(2, dtype=torch.float64, device=self.device)  # sum of the loss, tokens

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if len(batch["input_ids"]):
            count = (batch["labels"][:, 1:] != IGNORE).sum()
            self.held_out += torch.stack([self.loss_sum(batch).double(), count.double()])

    test_step = validation_step

    def held_out_loss(self) -> torch.Tensor:
        """Mean loss in nats per token, over all ranks."""
        total, count = self.trainer.strategy.reduce(self.held_out, reduce_op="sum")
        return total / count

    def on_validation_epoch_end(self) -> None:
        loss = self.held_out_loss()
        self.log("val/loss", loss.float(), prog_bar=True)
        self.log("val/perplexity", loss.exp().float(), prog_bar=True)

    def on_test_epoch_end(self) -> None:
        loss = self.held_out_loss()
        self.log("test/loss", loss.float())
        self.log("test/perplexity", loss.exp().float())

    # Writing

    @property
    def one_article(self) -> Decoding:
        """The decode flags, with one candidate."""
        return replace(self.decoding, candidates=1)

    def write(self, headlines: list[str], seed: int, **options: Any) -> list[list[Article]]:
        """Articles for headlines with the decode flags; for options see `write_articles`."""
        return write_articles(self.language_model, self.tokenizer, headlines, self.decoding, seed, **options)

    def write_one(self, headline: str) -> str:
        """One article for one headline."""
        [[article]] = write_articles(
            self.language_model, self.tokenizer, [headline], self.one_article, mix_seed(self.seed, 0)
        )
        return article.text

    def predict_step(self, batch: HeadlineBatch, batch_idx: int) -> Written:
        """Write a batch's articles. The seed goes by the batch, which is the same on any number of ranks."""
        if not batch["headlines"]:
            return Written(index=batch["index"], articles=[])
        articles = self.write(batch["headlines"], mix_seed(self.seed, batch["index"]))
        return Written(
            index=batch["index"],
            articles=[
                {
                    "index": row,
                    "candidate": candidate,
                    "headline": headline,
                    "article": article.text,
                    "tokens": article.tokens,
                    "finish_reason": article.finish_reason,
                }
                for row, headline, candidates in zip(batch["rows"], batch["headlines"], articles, strict=True)
                for candidate, article in enumerate(candidates)
            ],
        )

    # Checkpoints

    def adapter_flags(self) -> dict[str, Any]:
        """The flags that adapters must be loaded with."""
        return {f"model.{name}": getattr(self, name) for name in ADAPTER_FLAGS}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep adapters only, and the flags that they were trained with."""
        trained = trainable_names(self)
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}
        # `load_from_checkpoint` constructs the module from these.
        flags = {name: getattr(self, name) for name in (*ADAPTER_FLAGS, *TRAINING_FLAGS)}
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = flags
        saved = checkpoint.setdefault(CHECKPOINT_KEY, {})
        saved["flags"] = saved.get("flags", {}) | self.adapter_flags() | {"seed_everything": self.seed}
        saved["training"] = {f"model.{name}": getattr(self, name) for name in TRAINING_FLAGS}
        saved["architecture"] = self.architecture

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the adapters fit.

        Raises:
            OnionError: they do not.
        """
        check_adapters(self, checkpoint)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load adapters. Frozen weights are never in a checkpoint, so they are not reported as missing."""
        keys = super().load_state_dict(state_dict, strict=False, assign=assign)
        trained = trainable_names(self)
        return keys._replace(missing_keys=[name for name in keys.missing_keys if name in trained])


def gpu_utilization(device: torch.device) -> float | None:
    """Share of the last second in which the GPU was busy, in percent; None where the driver does not tell (MIG, WSL)."""
    try:
        return float(torch.cuda.utilization(device))
    except (RuntimeError, ModuleNotFoundError, pynvml.NVMLError):
        return None


def check_flags(model: OnionModule) -> None:
    for flag, good, accepted in (
        ("lora_rank", model.lora_rank >= 1, "at least 1"),
        ("lora_alpha", model.lora_alpha > 0, "above 0"),
        ("lora_dropout", 0 <= model.lora_dropout < 1, "from 0 to below 1"),
        ("target_modules", len(model.target_modules) > 0, "at least one layer's name"),
        ("learning_rate", model.learning_rate > 0, "above 0"),
        ("weight_decay", model.weight_decay >= 0, "0 or more"),
        ("warmup_ratio", 0 <= model.warmup_ratio <= 1, "from 0 to 1"),
    ):
        check_range(f"--model.{flag}", getattr(model, flag), good, accepted)

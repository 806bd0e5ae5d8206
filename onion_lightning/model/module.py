"""The LightningModule: a frozen base model with LoRA adapters, trained on headlines and articles."""

import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from transformers import PreTrainedModel

from onion_lightning.data.collate import Batch, HeadlineBatch
from onion_lightning.model.adapters import (
    ADAPTER_FLAGS,
    check_adapter_flags,
    check_adapters,
    insert_adapters,
    load_adapters,
    reduce_to_adapters,
    trainable_names,
)
from onion_lightning.model.articles.record import Article, ArticleBatch, article_batch
from onion_lightning.model.base_model import LoadIn, best_precision, compute_dtype, load_model
from onion_lightning.model.decoding import Decoding, write_articles
from onion_lightning.model.loss import HeldOutLoss, supervised_loss, zero_loss
from onion_lightning.model.optimizer_step import (
    HostCopy,
    adamw_with_cosine,
    adapter_gradients,
    check_finite,
    check_not_zero,
    check_optimizer_flags,
    gpu_stats,
    gradient_scaler,
    sum_over_ranks,
    total_steps,
)
from onion_lightning.model.packed_rows import pack_rows, packed_hidden_states
from onion_lightning.model.ranks import check_same_weights, exclude_frozen_weights
from onion_lightning.pretrained.locate import architecture, load_tokenizer
from onion_lightning.private_api import attached_trainer, uncount_optimizer_step
from onion_lightning.seeding import mix_seed

if TYPE_CHECKING:  # see adapters.py
    from peft import PeftModel

__all__ = ["OnionModule"]

log = logging.getLogger(__name__)


class OnionModule(pl.LightningModule):
    """Fine-tunes a causal language model with LoRA, and generates articles with it.

    Args:
        base_model: demo, a local directory in Hugging Face format, or a model ID on the Hugging Face Hub.
        load_in: format of the frozen weights: int8, nf4 (4-bit), or none (16 or 32 bit, as --trainer.precision).
        lora_rank: rank of the LoRA adapters.
        lora_alpha: the output of the adapters is scaled by lora_alpha / lora_rank.
        lora_dropout: dropout probability on the input of the adapters, in training only.
        target_modules: names of the layers to adapt; auto for the attention's query and value projections, all-linear for all
            linear layers except the output layer.
        adapter: folder of LoRA adapters (of export, or of peft, TRL or Axolotl) that fit starts from; the base model, rank,
            alpha and layers are theirs. With --ckpt_path, the adapters of the checkpoint are used instead.
        learning_rate: peak learning rate, at the end of warmup.
        weight_decay: weight decay of AdamW on the adapters.
        warmup_ratio: fraction of the training steps for linear warmup; cosine decay follows.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time per step.
        max_new_tokens: maximum number of tokens in a generated article.
        temperature: sampling temperature; 0 selects the most probable token at each step (greedy decoding).
        top_p: sample from the smallest set of most probable tokens whose total probability reaches this value.
        repetition_penalty: values above 1 make tokens that already occur in the article less probable.
        candidates: number of articles to generate per headline.
        adapter_strength: factor on the output of the adapters in predict and serve: 0 is the base model, 1 the trained model.
        seed: seed for adapter initialization, dropout and sampling; by default, the value of --seed_everything.
    """

    def __init__(
        self,
        base_model: str = "NousResearch/Llama-2-7b-hf",
        load_in: LoadIn = "int8",
        lora_rank: int = 8,
        lora_alpha: int = 16,
        lora_dropout: float = 0.05,
        target_modules: list[str] | str = ["q_proj", "v_proj"],  # noqa: B006 - appears as the default in --help, never modified
        adapter: str | None = None,
        learning_rate: float = 3e-4,
        weight_decay: float = 0.0,
        warmup_ratio: float = 0.03,
        gradient_checkpointing: bool = False,
        max_new_tokens: int = 300,
        temperature: float = 0.8,
        top_p: float = 0.95,
        repetition_penalty: float = 1.1,
        candidates: int = 1,
        adapter_strength: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.base_model = base_model
        self.load_in = load_in
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.target_modules = target_modules if isinstance(target_modules, str) else list(target_modules)
        self.adapter = adapter
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.gradient_checkpointing = gradient_checkpointing
        self.decoding = Decoding(max_new_tokens, temperature, top_p, repetition_penalty, candidates, adapter_strength)
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.strict_loading = False  # checkpoints contain adapters only
        self.model: PeftModel | None = None
        self.epoch_began = 0  # attempted steps before the current epoch
        self.skipped_steps = 0  # by the gradient scaler of fp16, in the whole run
        self.skipped_in_a_row = 0
        check_adapter_flags(lora_rank, lora_alpha, lora_dropout, self.target_modules)
        check_optimizer_flags(learning_rate, weight_decay, warmup_ratio)

    # Model

    def configure_model(self) -> None:
        """Load the base model and insert adapters, on the device of this rank; on the CPU without a Trainer."""
        trainer = attached_trainer(self)
        if trainer is None:
            self.load_base(torch.device("cpu"))
        else:
            self.load_base(trainer.strategy.root_device, trainer.precision)
            exclude_frozen_weights(self)
            check_same_weights(self, self.base_model)

    def load_base(self, device: torch.device, precision: str | None = None) -> None:
        """Load the base model on a device and insert adapters. A second call does nothing.

        Args:
            device: of all layers.
            precision: 16-mixed, bf16-mixed or 32-true; the frozen layers have its dtype. By default, the best of the device.

        Raises:
            OnionError: there is no such model, it has no such layers to adapt, or there is no such precision.
        """
        if self.model is not None:
            return
        self.tokenizer = load_tokenizer(self.base_model)
        dtype = compute_dtype(precision or best_precision(device))
        base = load_model(self.base_model, self.load_in, device, dtype)
        with torch.device("cpu"):  # Lightning chose the GPU: its random numbers differ, and peft moves adapters to it
            self.adapt(base)
        layers = self.target_modules if isinstance(self.target_modules, str) else ", ".join(self.target_modules)
        adapted = f"LoRA rank {self.lora_rank} on {layers}"
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        log.info(
            f"Loaded {self.base_model} (load_in {self.load_in}) with {adapted}: {trainable:,} trainable parameters."
        )

    def adapt(self, base: PreTrainedModel) -> None:
        """Insert adapters into a frozen base model, and prepare it for training."""
        self.architecture = architecture(base.config)
        torch.manual_seed(mix_seed(self.seed))
        self.model = insert_adapters(
            base, self.lora_rank, self.lora_alpha, self.lora_dropout, self.target_modules, self.base_model
        )
        if self.gradient_checkpointing:
            base.enable_input_require_grads()  # the base is frozen: otherwise no gradient would reach the adapters
            base.activation_checkpointing_enable({"use_reentrant": False})
        pack_rows(base)
        if self.adapter is not None:
            load_adapters(self, self.adapter)
        self.train()

    def cpu(self) -> "OnionModule":
        """Do nothing: Lightning calls this at the end of a run, and it would copy 7 GB per rank into host memory."""
        return self

    @property
    def language_model(self) -> PreTrainedModel:
        """The base model with the adapters in its layers, as a transformers model."""
        assert self.model is not None
        return cast(PreTrainedModel, self.model.get_base_model())

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states (rows, length, hidden size) of token ids (rows, length), padded on the right."""
        rows, length = input_ids.shape
        hidden = packed_hidden_states(self.language_model, input_ids.flatten(), [length] * rows)
        return hidden.view(rows, length, -1)

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Sum -log p over the supervised tokens of a micro-batch, in nats; 0 for an empty micro-batch."""
        if not batch["row_lengths"]:
            return zero_loss(self.parameters(), self.device)
        hidden = packed_hidden_states(self.language_model, batch["input_ids"], batch["row_lengths"])
        head = self.language_model.get_output_embeddings()
        return supervised_loss(hidden, head, batch["predictors"], batch["targets"])

    # Training

    @property
    def attempted_steps(self) -> int:
        """Optimizer steps of this run, with those that the gradient scaler of fp16 skipped; `global_step` is without."""
        return self.trainer.global_step + self.skipped_steps

    def on_train_epoch_start(self) -> None:
        self.epoch_began = self.attempted_steps

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Checkpoints contain no random state: a seed from the position in the run makes a resumed run repeat its dropout.
        torch.manual_seed(mix_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.step_loss = torch.zeros((), device=self.device)
            self.step_started = time.perf_counter()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return this micro-batch's share of the mean over all supervised tokens of the global batch."""
        share = self.loss_sum(batch) / batch["supervised"]
        self.step_loss += share.detach()
        # Lightning divides by the accumulation and DDP by the number of ranks: undo both (transformers#34191).
        return share * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradient_norm = torch.nn.utils.get_total_norm(adapter_gradients(self))
        self.figures = HostCopy(torch.stack([sum_over_ranks(self.step_loss), gradient_norm]))
        if gradient_scaler(self.trainer) is None:
            self.check_step()  # this waits for the device, and is the only such wait of the step

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step, and log it; in fp16, the gradient scaler skips it if the gradient is not finite.

        The scaler waits for the device. Its steps are checked afterwards, so that there is no second wait.
        """
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        super().optimizer_step(*args, **kwargs)
        if gradient_scaler(self.trainer) is not None:
            self.check_step()
        loss, gradient_norm = self.figures.read()
        if not math.isfinite(gradient_norm):
            self.count_skipped_step()
            return
        self.skipped_in_a_row = 0
        self.log_value("learning_rate", rate)
        self.log_value("train/loss", loss, prog_bar=True)
        self.log_value("train/grad_norm", gradient_norm)
        if self.skipped_steps:
            self.log_value("train/skipped_steps", self.skipped_steps)

    def check_step(self) -> None:
        """Stop a run whose step is not finite or would train nothing."""
        loss, gradient_norm = self.figures.read()
        check_finite(self, loss, gradient_norm)
        check_not_zero(self, gradient_norm)

    def count_skipped_step(self) -> None:
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        uncount_optimizer_step(self.trainer)

    def log_value(self, name: str, value: float, prog_bar: bool = False) -> None:
        """Log a number that is on the host. Lightning would copy it to the device and back, and wait for both."""
        self.log(name, torch.tensor(value, dtype=torch.float32), prog_bar=prog_bar)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0 and self.skipped_in_a_row == 0:
            seconds = time.perf_counter() - self.step_started
            self.log_value("tokens/s", batch["tokens"] / seconds, prog_bar=True)
            for name, value in gpu_stats(self.device).items():
                self.log_value(name, value)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        steps = total_steps(self.trainer)
        return adamw_with_cosine(self.parameters(), self.learning_rate, self.weight_decay, self.warmup_ratio, steps)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedule, unless the gradient scaler skipped the optimizer step."""
        if self.skipped_in_a_row == 0:
            scheduler.step()

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        self.held_out = HeldOutLoss(self.device)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if batch["row_lengths"]:
            self.held_out.update(self.loss_sum(batch), len(batch["targets"]))

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        for name, value in self.held_out.compute(self.trainer.strategy).items():
            self.log(f"val/{name}", value, prog_bar=True)

    def on_test_epoch_end(self) -> None:
        for name, value in self.held_out.compute(self.trainer.strategy).items():
            self.log(f"test/{name}", value)

    # Generation

    @property
    def one_article(self) -> Decoding:
        """The decoding flags, with one candidate."""
        return replace(self.decoding, candidates=1)

    def write(self, headlines: list[str], seed: int, **options: Any) -> list[list[Article]]:
        """Generate articles with the decoding flags; for `options` see `write_articles`."""
        return write_articles(self.language_model, self.tokenizer, headlines, self.decoding, seed, **options)

    def write_one(self, headline: str) -> str:
        """Generate one article for one headline."""
        seed = mix_seed(self.seed, 0)
        [[article]] = write_articles(self.language_model, self.tokenizer, [headline], self.one_article, seed)
        return article.text

    def predict_step(self, batch: HeadlineBatch, batch_idx: int) -> ArticleBatch:
        """Generate the articles of a batch. The seed depends on the batch, not on the number of ranks."""
        articles = self.write(batch["headlines"], mix_seed(self.seed, batch["index"]))
        return article_batch(batch, articles)

    # Checkpoints

    def adapter_flags(self) -> dict[str, Any]:
        """Return the flags that a checkpoint's adapters must be loaded with."""
        return {f"model.{name}": getattr(self, name) for name in ADAPTER_FLAGS}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        reduce_to_adapters(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the adapters match.

        Raises:
            OnionError: they do not.
        """
        check_adapters(self, checkpoint)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load adapters. Base weights are never in a checkpoint and are not reported as missing."""
        keys = super().load_state_dict(state_dict, strict=False, assign=assign)
        trainable = trainable_names(self)
        return keys._replace(missing_keys=[name for name in keys.missing_keys if name in trainable])

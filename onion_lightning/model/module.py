"""The LightningModule: a frozen base model with LoRA adapters, trained on headlines and articles."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import PreTrainedModel

from onion_lightning.data.collate import Batch
from onion_lightning.errors import check_range
from onion_lightning.model.adapters.insertion import insert_adapters
from onion_lightning.model.adapters.saved import (
    ADAPTER_FLAGS,
    check_adapters,
    load_adapters,
    reduce_to_adapters,
    trainable_names,
)
from onion_lightning.model.adapters.settings import AdapterSettings
from onion_lightning.model.base_model import LoadIn, best_precision, compute_dtype, load_model
from onion_lightning.model.decoding import Decoding
from onion_lightning.model.loss import supervised_loss, zero_loss
from onion_lightning.model.optimization.optimizer import OptimizerName, OptimizerSettings, check_optimizer_device
from onion_lightning.model.optimization.training_hooks import TrainingHooks
from onion_lightning.model.packed_rows import hidden_states, noisy_embeddings, pack_rows, packed_hidden_states
from onion_lightning.model.ranks import check_launcher, compare_sums, exclude_frozen_weights, weight_sums
from onion_lightning.model.sharding.layers import Shard
from onion_lightning.model.sharding.pace import Pace
from onion_lightning.model.writing.hooks import WritingHooks
from onion_lightning.pretrained.locate import architecture, load_tokenizer
from onion_lightning.private_api import attached_trainer
from onion_lightning.ranks import together
from onion_lightning.seeding import mix_seed

if TYPE_CHECKING:  # see adapters/insertion.py
    from peft import PeftModel

    from onion_lightning.model.sharding.shares import Share

__all__ = ["OnionModule"]

log = logging.getLogger(__name__)


class OnionModule(TrainingHooks, WritingHooks):
    """Fine-tunes a causal language model with LoRA, and generates articles with it.

    Args:
        base_model: demo, a local directory in Hugging Face format, or a model ID on the Hugging Face Hub.
        load_in: format of the frozen weights: int8, nf4 (4-bit), or none (16 or 32 bit, as --trainer.precision).
        lora_rank: rank of the LoRA adapters.
        lora_alpha: the output of the adapters is scaled by lora_alpha / lora_rank.
        lora_dropout: dropout probability on the input of the adapters, in training only.
        target_modules: names of the layers to adapt; auto for the attention's query and value projections, all-linear for all
            linear layers except the output layer.
        use_rslora: scale the output of the adapters by lora_alpha / sqrt(lora_rank) instead (rsLoRA), for high ranks.
        use_dora: train the norm of each row of the adapted weights apart from its direction (DoRA): slower.
        init_lora_weights: first values of A, kaiming or gaussian; B starts at zero.
        adapter: folder of LoRA adapters (of export, or of peft, TRL or Axolotl) that fit starts from; the base model, rank,
            alpha and layers are theirs. With --ckpt_path, the adapters of the checkpoint are used instead.
        learning_rate: peak learning rate, at the end of warmup.
        weight_decay: weight decay of AdamW on the adapters.
        optimizer: adamw (torch), or of bitsandbytes: adamw_8bit, paged_adamw and paged_adamw_8bit, whose state takes less
            memory of the GPU; paged ones need a GPU.
        lora_plus_ratio: learning rate of B divided by that of A (LoRA+); 1 trains both at the learning rate.
        neftune_alpha: scale of the noise on embeddings in training (NEFTune); 0 turns it off, 5 is usual.
        warmup_ratio: fraction of the training steps for linear warmup; cosine decay follows.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time per step.
        shard: spread the frozen weights over ranks, for a base model larger than one card: true or node for the ranks of each
            machine, all for all ranks. The result is the same bit for bit.
        max_new_tokens: maximum number of tokens in a generated article.
        temperature: sampling temperature; 0 selects the most probable token at each step (greedy decoding).
        top_p: sample from the smallest set of most probable tokens whose total probability reaches this value.
        repetition_penalty: values above 1 make tokens that already occur in the article less probable.
        candidates: number of articles to generate per headline.
        best_of: number of articles to write, of which predict keeps the --model.candidates best: those whose headline makes
            them most probable, compared with no headline; with loops, copied runs or no ending they come last. 1 keeps all.
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
        use_rslora: bool = False,
        use_dora: bool = False,
        init_lora_weights: str = "kaiming",
        adapter: str | None = None,
        learning_rate: float = 3e-4,
        weight_decay: float = 0.0,
        optimizer: OptimizerName = "adamw",
        lora_plus_ratio: float = 1.0,
        neftune_alpha: float = 0.0,
        warmup_ratio: float = 0.03,
        gradient_checkpointing: bool = False,
        shard: Shard = False,
        max_new_tokens: int = 300,
        temperature: float = 0.8,
        top_p: float = 0.95,
        repetition_penalty: float = 1.1,
        candidates: int = 1,
        best_of: int = 1,
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
        self.use_rslora = use_rslora
        self.use_dora = use_dora
        self.init_lora_weights = init_lora_weights
        self.adapter = adapter
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.optimizer = optimizer
        self.lora_plus_ratio = lora_plus_ratio
        self.neftune_alpha = neftune_alpha
        self.warmup_ratio = warmup_ratio
        self.gradient_checkpointing = gradient_checkpointing
        self.shard = shard
        self.pace: Pace | None = None  # of the ranks that share the weights, if they are sharded
        self.decoding = Decoding(
            max_new_tokens, temperature, top_p, repetition_penalty, candidates, best_of, adapter_strength
        )
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.strict_loading = False  # checkpoints contain adapters only
        self.model: PeftModel | None = None
        self.adapters.check()
        self.optimization.check()
        check_range("--model.neftune_alpha", neftune_alpha, neftune_alpha >= 0, "at least 0")

    @property
    def adapters(self) -> AdapterSettings:
        """The flags of the adapters."""
        return AdapterSettings(
            self.lora_rank,
            self.lora_alpha,
            self.lora_dropout,
            self.target_modules,
            self.use_rslora,
            self.use_dora,
            self.init_lora_weights,
        )

    @property
    def optimization(self) -> OptimizerSettings:
        """The flags of the optimizer."""
        return OptimizerSettings(
            self.learning_rate, self.weight_decay, self.warmup_ratio, self.optimizer, self.lora_plus_ratio
        )

    # Model

    def setup(self, stage: str) -> None:
        super().setup(stage)
        check_launcher(self.trainer.strategy)
        if stage == "fit":
            check_optimizer_device(self.optimizer, self.trainer.strategy.root_device)

    def configure_model(self) -> None:
        """Load the base model and insert adapters, on the device of this rank; on the CPU without a Trainer."""
        trainer = attached_trainer(self)
        if trainer is None:
            self.load_base(torch.device("cpu"))
        else:
            device = trainer.strategy.root_device
            if self.shard:
                from onion_lightning.model.sharding.loading import load_shares  # late: it imports bitsandbytes

                ranks = trainer.world_size, trainer.num_nodes
                self.pace = self.pace or load_shares(self, device, trainer.precision, *ranks)
            else:
                with together():
                    self.load_base(device, trainer.precision)
                compare_sums(weight_sums(self), self.base_model)
            exclude_frozen_weights(self)

    def load_base(self, device: torch.device, precision: str | None = None, share: "Share | None" = None) -> None:
        """Load the base model on a device and insert adapters. A second call does nothing.

        Args:
            device: of all layers.
            precision: 16-mixed, bf16-mixed or 32-true; the frozen layers have its dtype. By default, the best of the device.
            share: as for `load_model`.

        Raises:
            OnionError: there is no such model, it has no such layers to adapt, or there is no such precision.
        """
        if self.model is not None:
            return
        self.tokenizer = load_tokenizer(self.base_model)
        dtype = compute_dtype(precision or best_precision(device))
        base = load_model(self.base_model, self.load_in, device, dtype, share)
        with torch.device("cpu"):  # Lightning chose the GPU: its random numbers differ, and peft moves adapters to it
            self.adapt(base)
        layers = self.target_modules if isinstance(self.target_modules, str) else ", ".join(self.target_modules)
        adapted = f"{'DoRA' if self.use_dora else 'LoRA'} rank {self.lora_rank} on {layers}"
        trainable = sum(p.numel() for p in self.parameters() if p.requires_grad)
        log.info(
            f"Loaded {self.base_model} (load_in {self.load_in}) with {adapted}: {trainable:,} trainable parameters."
        )

    def adapt(self, base: PreTrainedModel) -> None:
        """Insert adapters into a frozen base model, and prepare it for training."""
        self.architecture = architecture(base.config)
        torch.manual_seed(mix_seed(self.seed))
        self.model = insert_adapters(base, self.adapters, self.base_model)
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
        return hidden_states(self.language_model, input_ids)

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Sum -log p over the supervised tokens of a micro-batch, in nats; 0 for an empty micro-batch."""
        if not batch["row_lengths"]:
            return self.empty_loss()
        head = self.language_model.get_output_embeddings()
        return supervised_loss(self.hidden_states(batch), head, batch["predictors"], batch["targets"])

    def hidden_states(self, batch: Batch) -> torch.Tensor:
        """Return the last hidden states of a micro-batch, (tokens, hidden size)."""
        with noisy_embeddings(self.language_model, batch["row_lengths"], self.neftune_alpha if self.training else 0):
            return packed_hidden_states(self.language_model, batch["input_ids"], batch["row_lengths"])

    def empty_loss(self) -> torch.Tensor:
        """Return the loss of a micro-batch without rows, 0. Other ranks with shares of the weights may wait for this one."""
        loss = zero_loss(self.parameters(), self.device)
        if self.pace is None or not torch.is_grad_enabled():  # a validation keeps pace by itself
            return loss
        token = torch.zeros(1, dtype=torch.long, device=self.device)
        return loss + 0.0 * packed_hidden_states(self.language_model, token, [1]).float().sum()

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

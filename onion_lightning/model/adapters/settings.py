"""The settings of LoRA adapters, as the flags of `OnionModule` give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onion_lightning.errors import OnionError, check_range

__all__ = ["AdapterSettings", "TargetModules"]

TargetModules = Sequence[str] | str  # names of layers, or one of `SHORTHANDS`
SHORTHANDS = ("auto", "all-linear")
STARTS: dict[str, Any] = {"kaiming": True, "gaussian": "gaussian"}  # by name: peft's value
OTHER_STARTS = ("pissa", "olora", "loftq", "corda", "eva", "lora_ga", "mica", "orthogonal")


@dataclass(frozen=True)
class AdapterSettings:
    """How adapters are made and what they compute.

    Attributes:
        rank: of each adapter.
        alpha: scales the output of the adapters.
        dropout: on their input, in training only.
        target_modules: names of the layers to adapt; all-linear for all linear layers except the output layer, auto for the
            query and value projections of attention.
        use_rslora: scale by alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023).
        use_dora: train the norm of each row of the adapted weights apart from its direction (DoRA, Liu et al. 2024).
        init_lora_weights: distribution of the first values of A: kaiming (uniform) or gaussian; B starts at zero.
    """

    rank: int
    alpha: int
    dropout: float
    target_modules: TargetModules
    use_rslora: bool = False
    use_dora: bool = False
    init_lora_weights: str = "kaiming"

    @property
    def scaling(self) -> float:
        """Factor on the product of B and A."""
        return float(self.alpha / (self.rank**0.5 if self.use_rslora else self.rank))

    @property
    def start(self) -> Any:
        """The value of peft for `init_lora_weights`."""
        return STARTS[self.init_lora_weights]

    def check(self) -> None:
        """Raise an `OnionError` at a value out of range, or at settings that do not go together."""
        check_range("--model.lora_rank", self.rank, self.rank >= 1, "at least 1")
        check_range("--model.lora_alpha", self.alpha, self.alpha > 0, "above 0")
        check_range("--model.lora_dropout", self.dropout, 0 <= self.dropout < 1, "at least 0 and below 1")
        self.check_target_modules()
        self.check_start()

    def check_target_modules(self) -> None:
        names = [] if isinstance(self.target_modules, str) else self.target_modules
        good = self.target_modules in SHORTHANDS or (len(names) > 0 and all(names))
        accepted = """auto, all-linear, or a list of at least one layer name, such as '["q_proj", "v_proj"]'"""
        check_range("--model.target_modules", self.target_modules, good, accepted)

    def check_start(self) -> None:
        """Refuse first values that peft cannot compute from quantized weights, or that change the base model."""
        asked, known = self.init_lora_weights, " or ".join(STARTS)
        if asked.partition("_niter")[0] in OTHER_STARTS:
            raise OnionError(
                f"--model.init_lora_weights {asked}: changes the base model's weights, or needs them unquantized, so the"
                f" adapters would not fit the base model that others load; give {known}."
            )
        check_range("--model.init_lora_weights", asked, asked in STARTS, known)

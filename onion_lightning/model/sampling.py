"""Draws the next token of each row."""

import torch
import torch.nn.functional as F
from transformers import LogitsProcessor

from onion_lightning.errors import NonFiniteError

__all__ = ["FiniteLogits", "NucleusSampling"]

CANDIDATES = 1024  # most probable tokens of a row that are looked at before its whole vocabulary is sorted


class FiniteLogits(LogitsProcessor):
    """Stops generation where no token has a probability; greedy decoding would write token 0 from then on."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores, (rows, vocabulary).

        Raises:
            NonFiniteError: a row contains NaN or infinity, or nothing above minus infinity.
        """
        if not scores.amax(-1).isfinite().all():
            raise NonFiniteError(
                "--ckpt_path: the model's logits are not finite; either the checkpoint is damaged or a value overflowed: try"
                " --trainer.precision 32-true."
            )
        return scores


class NucleusSampling(LogitsProcessor):
    """Draws a token of each row from the smallest set of most probable tokens whose total probability reaches `top_p`.

    Nucleus sampling is from Holtzman et al. 2020. `generate` would sort the whole vocabulary and draw a random number for
    each of its tokens, which takes longer than a small model; this sorts the most probable tokens and draws one number for
    each row. The drawn token is the only one left, so `generate` must be greedy.

    Args:
        temperature: divides the logits.
        top_p: 1 draws from the whole vocabulary.
    """

    def __init__(self, temperature: float, top_p: float) -> None:
        self.temperature = temperature
        self.top_p = top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores in which only the drawn token is finite, both (rows, vocabulary)."""
        probabilities, tokens = self.candidates((scores.float() / self.temperature).softmax(-1))
        total = probabilities.cumsum(-1)  # (rows, candidates)
        kept = total - probabilities < self.top_p
        mass = total.masked_fill(~kept, 0.0).amax(-1, keepdim=True)  # (rows, 1)
        drawn = torch.rand_like(mass) * mass  # in [0, mass)
        choice = ((total <= drawn) & (total < mass)).sum(
            -1, keepdim=True
        )  # rounding may make `drawn` as large as `mass`
        return torch.full_like(scores, -torch.inf).scatter_(-1, tokens.gather(-1, choice), 0.0)

    def candidates(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the probabilities and ids of the tokens that may be in the nucleus, both (rows, candidates).

        Args:
            probabilities: (rows, vocabulary).
        """
        if self.top_p == 1:
            ids = torch.arange(probabilities.shape[-1], device=probabilities.device)
            return probabilities, ids.expand(probabilities.shape)
        vocabulary = probabilities.shape[-1]
        top, ids = probabilities.topk(min(CANDIDATES, vocabulary))
        wide = top.sum(-1) < self.top_p  # (rows,)
        if wide.any():  # a row of which these tokens are not enough
            missing = (0, vocabulary - top.shape[-1])
            top, ids = F.pad(top, missing), F.pad(ids, missing)
            top[wide], ids[wide] = probabilities[wide].sort(descending=True, stable=True)
        return top, ids

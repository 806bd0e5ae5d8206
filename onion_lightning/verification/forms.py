"""The forms of a model on this machine: the checkpoint as this project loads it, and folders as transformers and peft do."""

import contextlib
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from onion_lightning.data.prompt import TEMPLATE, encode_prompt, encode_texts
from onion_lightning.errors import OnionError, shorten
from onion_lightning.model.base_model import loading
from onion_lightning.model.decoding import Decoding, autocast_as_trained, continue_prompts, evaluation_mode, left_pad
from onion_lightning.model.module import OnionModule
from onion_lightning.model.writing.losses import token_losses
from onion_lightning.pretrained.locate import LOAD_ERRORS
from onion_lightning.private_api import hide_gguf_bar
from onion_lightning.verification.probes import Probe
from onion_lightning.verification.reading import Encoded, Written

__all__ = ["Checkpoint", "PlainModel", "load_gguf", "load_merged", "load_peft", "load_tokenizer_of"]


class Checkpoint:
    """A checkpoint as this project's own commands use it.

    Args:
        name: of the form.
        model: with base and adapters loaded.
    """

    def __init__(self, name: str, model: OnionModule) -> None:
        self.name = name
        self.model = model

    def encode(self, headline: str, article: str) -> Encoded:
        tokenizer = self.model.tokenizer
        prompt = encode_prompt(tokenizer, headline)
        return Encoded(prompt, encode_texts(tokenizer, [article])[0], prompt, None)

    def log_probabilities(self, prompt: Sequence[int], completion: Sequence[int]) -> np.ndarray:
        network = self.model.language_model
        device = network.device
        ids = torch.tensor([[*prompt, *completion[:-1]]], device=device)
        with torch.inference_mode(), evaluation_mode(self.model), autocast_as_trained(network):
            hidden = self.model(ids)[0, len(prompt) - 1 :]  # (tokens, hidden size)
            losses = token_losses(network, hidden, torch.tensor(completion, device=device))
        return -np.asarray(losses.cpu())

    def write(self, probes: Sequence[Probe], new_tokens: int) -> list[Written]:
        greedy = Decoding(new_tokens, temperature=0.0, repetition_penalty=1.0)
        prompts = [probe.prompt for probe in probes]
        articles = continue_prompts(self.model.language_model, self.model.tokenizer, prompts, greedy, seed=0)
        return [Written(article.text, article.finish_reason == "eos") for (article,) in articles]


class PlainModel:
    """A model and a tokenizer of transformers, used without any code of this project.

    Args:
        name: of the form.
        model: causal language model, in `eval()`.
        tokenizer: from the same folder.
        template: the prompt, with `{headline}` where the headline is inserted.
    """

    def __init__(self, name: str, model: Any, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.template = template

    def encode(self, headline: str, article: str) -> Encoded:
        return Encoded(
            self.ids(self.template.replace("{headline}", headline)),
            list(self.tokenizer(article, add_special_tokens=False).input_ids),
            self.ids(TEMPLATE.replace("{headline}", headline)),
            self.chat(headline),
        )

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text).input_ids)

    def chat(self, headline: str) -> list[int] | None:
        if self.tokenizer.chat_template is None:
            return None
        messages = [{"role": "user", "content": headline}]
        return list(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    @torch.inference_mode()
    def log_probabilities(self, prompt: Sequence[int], completion: Sequence[int]) -> np.ndarray:
        ids = torch.tensor([[*prompt, *completion]], device=self.model.device)
        logits = self.model(input_ids=ids[:, :-1]).logits[0, len(prompt) - 1 :]  # (tokens, vocabulary)
        chosen = logits.float().log_softmax(-1).gather(1, ids[0, len(prompt) :, None])
        return np.asarray(chosen[:, 0].double().cpu())

    @torch.inference_mode()
    def write(self, probes: Sequence[Probe], new_tokens: int) -> list[Written]:
        inputs = left_pad([probe.prompt for probe in probes], self.model.device)
        eos, width = int(self.tokenizer.eos_token_id), inputs["input_ids"].shape[1]
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "repetition_penalty": 1.0}
        output = self.model.generate(**inputs, **greedy, max_new_tokens=new_tokens, eos_token_id=eos, pad_token_id=0)
        return [self.decode(ids, eos) for ids in output[:, width:].tolist()]

    def decode(self, ids: list[int], eos: int) -> Written:
        ended = eos in ids
        text = self.tokenizer.decode(ids[: ids.index(eos)] if ended else ids, skip_special_tokens=True)
        return Written(str(text).strip(), ended)


def load_tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in an exported folder.

    Raises:
        OnionError: it cannot be loaded.
    """
    with refusing(folder, "tokenizer"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return tokenizer


def load_peft(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Load adapters and the base model that their config names, through peft.

    Args:
        folder: of peft.
        device: of the model.
        dtype: of the base model.

    Raises:
        OnionError: one of them cannot be loaded.
    """
    from peft import AutoPeftModelForCausalLM

    with refusing(folder, "model"):
        return AutoPeftModelForCausalLM.from_pretrained(str(folder), dtype=dtype, device_map={"": str(device)}).eval()


def load_merged(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a merged model through transformers; for the arguments see `load_peft`."""
    with refusing(folder, "model"):
        return AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype, device_map={"": str(device)}).eval()


def load_gguf(file: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load the weights, dequantized, and the tokenizer of a GGUF file through transformers.

    Args:
        file: in an exported folder.
        device: of the model.
        dtype: of its weights.

    Raises:
        OnionError: the file cannot be loaded.
    """
    hide_gguf_bar()
    # Beside adapters, transformers would load their base model instead.
    with refusing(file.parent, file.name), tempfile.TemporaryDirectory() as alone, loading(file.name, str(file)):
        (Path(alone) / file.name).symlink_to(file.resolve())
        source = {"pretrained_model_name_or_path": alone, "gguf_file": file.name}
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, device_map={"": str(device)})
    return model.eval(), tokenizer


@contextlib.contextmanager
def refusing(folder: Path, what: str) -> Iterator[None]:
    """Turn what loading raises at a damaged file into an `OnionError`."""
    try:
        yield
    except (*LOAD_ERRORS, RuntimeError, struct.error) as error:
        raise OnionError(
            f"--path {folder}: its {what} cannot be loaded ({shorten(error)}); export it again."
        ) from error

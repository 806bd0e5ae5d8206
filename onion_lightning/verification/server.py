"""A model behind a URL: vLLM, llama.cpp or Ollama, which somebody else started."""

import contextlib
import json
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

import numpy as np

from onion_lightning.data.prompt import TEMPLATE
from onion_lightning.errors import OnionError, shorten
from onion_lightning.verification.probes import Probe
from onion_lightning.verification.reading import Encoded, Written

__all__ = ["Server"]

TIMEOUT = 600  # seconds: a CPU may take minutes for an article
FORCED = 1000.0  # added to the logit of a token, which is then chosen; llama.cpp ignores 1e9 at times
# Of vLLM and of llama.cpp, whose defaults may be those of a generation_config.json or of the command line.
NO_PENALTY = {"repetition_penalty": 1.0, "repeat_penalty": 1.0}


class Server:
    """A model behind a URL.

    What only some servers offer is found by asking: token ids come from `/tokenize` (vLLM and llama.cpp), log-probabilities
    from the `prompt_logprobs` of vLLM or the `/completion` of llama.cpp.

    Args:
        url: of the server, without `/v1`.
        model: its name there; by default, the server's only one.
        template: the prompt, with `{headline}` where the headline is inserted.

    Raises:
        OnionError: the server cannot be reached, or has no such model.
    """

    def __init__(self, url: str, model: str | None, template: str) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.flag = f"--url {url}"
        if not self.url.startswith(("http://", "https://")):
            raise OnionError(f"{self.flag}: is no address of a server; give one such as http://localhost:8000.")
        self.template = template
        self.model = self.choose_model(model)
        self.name = f"{self.model} at {self.url}"

    def choose_model(self, asked: str | None) -> str:
        listed = self.ask("/v1/models")
        names = [str(entry.get("id")) for entry in (listed or {}).get("data") or []]
        if asked is None and len(names) == 1:
            return names[0]
        if asked is None or asked not in names:
            received = "" if asked is None else f" {asked}"
            raise OnionError(
                f"--url_model{received}: give one of the server's models: {', '.join(names) or 'it has none'}."
            )
        return asked

    def encode(self, headline: str, article: str) -> Encoded:
        prompt = self.tokenize(self.template.replace("{headline}", headline), special=True)
        same = self.tokenize(TEMPLATE.replace("{headline}", headline), special=True)
        return Encoded(prompt, self.tokenize(article, special=False), same, None)

    def tokenize(self, text: str, special: bool) -> list[int] | None:
        """Return the ids of a text, with BOS if `special` and if the tokenizer adds one; None if the server cannot tell."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": special}  # vLLM
        body |= {"content": text, "add_special": special}  # llama.cpp
        answer = self.ask("/tokenize", body, optional=True)
        tokens = (answer or {}).get("tokens")
        return tokens if isinstance(tokens, list) and all(isinstance(token, int) for token in tokens) else None

    def log_probabilities(self, prompt: Sequence[int], completion: Sequence[int]) -> np.ndarray | None:
        ids = [*prompt, *completion]
        body = {"model": self.model, "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        answer = self.ask("/v1/completions", body, optional=True)
        found = ((answer or {}).get("choices") or [{}])[0].get("prompt_logprobs")
        if not isinstance(found, list) or len(found) != len(ids):
            return self.forced_log_probabilities(prompt, completion)
        pairs = zip(found[len(prompt) :], completion, strict=True)
        return np.array([entry[str(token)]["logprob"] for entry, token in pairs])

    def forced_log_probabilities(self, prompt: Sequence[int], completion: Sequence[int]) -> np.ndarray | None:
        """Return log p of each token of a completion from llama.cpp; None from other servers.

        It reports log p of the token that it chooses, before any sampler, so each token in turn is made its choice.
        """
        found: list[float] = []
        for token in completion:
            body = {"prompt": [*prompt, *completion[: len(found)]], "n_predict": 1, "temperature": 0}
            body |= {"n_probs": 1, "logit_bias": [[token, FORCED]], "cache_prompt": True}
            answer = self.ask("/completion", body, optional=not found)
            entry = ((answer or {}).get("completion_probabilities") or [{}])[0]
            if entry.get("id") != token:
                return None
            found.append(entry["logprob"])
        return np.array(found)

    def write(self, probes: Sequence[Probe], new_tokens: int) -> list[Written]:
        return [self.write_one(self.template.replace("{headline}", probe.headline), new_tokens) for probe in probes]

    def write_one(self, prompt: str, new_tokens: int) -> Written:
        raw = {"model": self.model, "prompt": prompt, "raw": True, "stream": False}
        raw["options"] = {"temperature": 0, "repeat_penalty": 1.0, "num_predict": new_tokens}
        answer = self.ask("/api/generate", raw, optional=True)  # Ollama, whose /v1/completions applies a chat template
        if answer is not None and "response" in answer:
            return Written(str(answer["response"]).strip(), answer.get("done_reason") == "stop")
        body = {"model": self.model, "prompt": prompt, "max_tokens": new_tokens, "temperature": 0, **NO_PENALTY}
        answer = self.ask("/v1/completions", body)
        try:
            choice = (answer or {})["choices"][0]
            return Written(str(choice["text"]).strip(), choice.get("finish_reason") == "stop")
        except (KeyError, IndexError, TypeError) as error:
            raise OnionError(
                f"{self.flag}: its answer contains no text; give a server with /v1/completions."
            ) from error

    def ask(self, path: str, body: Mapping[str, Any] | None = None, optional: bool = False) -> dict[str, Any] | None:
        """Return the server's answer; None where `optional` and it has none.

        Raises:
            OnionError: there is no server, or its answer is not JSON.
        """
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                answer = json.loads(response.read())
                return answer if isinstance(answer, dict) else {}
        except (OSError, ValueError, HTTPException) as error:
            said = ""
            if isinstance(error, HTTPError):  # a status of 400 and above; it has the open answer
                with error, contextlib.suppress(OSError, HTTPException):
                    said = f": {' '.join(error.read(300).decode(errors='replace').split())}"
            if optional:
                return None
            raise OnionError(
                f"{self.flag}: {path} does not answer ({shorten(error)}{said}); start the server first, and give its address."
            ) from error

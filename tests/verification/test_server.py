"""A server with the model, reached by its URL: a small one of this test that answers as vLLM, llama.cpp or Ollama do."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.verification.probes import Probe
from onion_lightning.verification.reading import Written
from onion_lightning.verification.server import Server

TEMPLATE = "### {headline}\n"
IDS = {"### Egg\n": [1, 5], "An egg.": [7, 8], "### Headline: Egg\n### Article:\n": [1, 9]}


@pytest.fixture
def serve():
    """Returns a function that starts a server with these answers to paths, and returns its URL."""
    servers = []

    def start(answers):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.answer(None)

            def do_POST(self):
                self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def answer(self, body):
                known = answers.get(self.path)
                text = known(body) if callable(known) else known
                self.send_response(404 if text is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps(text).encode() if not isinstance(text, bytes) else text)

            def log_message(self, *args):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


MODELS = {"data": [{"id": "onion"}]}


def complete(body):
    if isinstance(body["prompt"], list):
        found = [None] + [{str(token): {"logprob": -float(token)}} for token in body["prompt"][1:]]
        return {"choices": [{"text": "x", "prompt_logprobs": found}]}
    assert body["temperature"] == 0
    return {"choices": [{"text": f" An egg after {body['prompt']}", "finish_reason": "stop"}]}


def test_a_server_like_vllm_tells_ids_probabilities_and_articles(serve):
    tokenize = {"/tokenize": lambda body: {"tokens": IDS[body["prompt"]]}}
    server = Server(serve({"/v1/models": MODELS, "/v1/completions": complete} | tokenize) + "/v1/", None, TEMPLATE)
    encoded = server.encode("Egg", "An egg.")
    assert (encoded.prompt, encoded.article, encoded.same_template) == ([1, 5], [7, 8], [1, 9])
    assert server.log_probabilities([1, 5], [7, 2]).tolist() == [-7.0, -2.0]
    [written] = server.write([Probe("Egg", "", [], [])], 9)
    assert written.text == "An egg after ### Egg"
    assert written.ended


def test_a_server_like_ollama_writes_articles_alone_and_without_its_template(serve):
    """Its /v1/completions puts the prompt into the template of the Modelfile, where it would appear twice (ollama#5544)."""

    def generate(body):
        assert body["raw"] is True
        assert body["options"] == {"temperature": 0, "repeat_penalty": 1.0, "num_predict": 9}
        return {"response": f" After {body['prompt']}", "done_reason": "length"}

    answers = {"/v1/models": MODELS, "/api/generate": generate, "/v1/completions": {"choices": [{"text": "templated"}]}}
    server = Server(serve(answers), "onion", TEMPLATE)
    assert server.encode("Egg", "An egg.")[:3] == (None, None, None)
    assert server.log_probabilities([1], [2]) is None
    assert server.write([Probe("Egg", "", [], [])], 9) == [Written("After ### Egg", False)]
    assert server.name.startswith("onion at http://")


def test_an_article_that_reached_the_limit_was_not_ended(serve):
    unfinished = {"choices": [{"text": "An", "finish_reason": "length"}]}
    server = Server(serve({"/v1/models": MODELS, "/v1/completions": unfinished}), None, TEMPLATE)
    assert not server.write([Probe("Egg", "", [], [])], 9)[0].ended


def test_the_ids_that_llama_cpp_is_asked_for_have_bos_only_before_a_prompt(serve):
    asked = []
    answers = {"/v1/models": MODELS, "/tokenize": lambda body: asked.append(body) or {"tokens": [1]}}
    Server(serve(answers), None, TEMPLATE).encode("Egg", "An egg.")
    assert (asked[0]["content"], asked[0]["add_special"]) == ("### Egg\n", True)
    assert (asked[-1]["content"], asked[-1]["add_special"]) == ("An egg.", False)


def choose(body):
    """Answers as llama-server does: log p of the token that the bias makes the choice, as it was before."""
    [[token, bias]] = body["logit_bias"]
    assert (body["n_predict"], body["temperature"], body["n_probs"]) == (1, 0, 1)
    assert 100 < bias < 1e6  # llama.cpp does not obey all larger ones
    return {"completion_probabilities": [{"id": token, "logprob": -float(token + 10 * len(body["prompt"]))}]}


def test_a_server_like_llama_cpp_is_asked_for_the_probability_of_each_token_in_turn(serve):
    answers = {"/v1/models": MODELS, "/v1/completions": {"choices": [{"text": "x"}]}, "/completion": choose}
    assert Server(serve(answers), None, TEMPLATE).log_probabilities([1, 5], [7, 2]).tolist() == [-27.0, -32.0]


def test_a_server_that_chooses_another_token_has_no_probability_of_this_one(serve):
    other = {"completion_probabilities": [{"id": 3, "logprob": -1.0}]}
    answers = {"/v1/models": MODELS, "/v1/completions": {"choices": [{"text": "x"}]}, "/completion": other}
    assert Server(serve(answers), None, TEMPLATE).log_probabilities([1, 5], [7]) is None


def test_a_context_that_is_too_short_for_an_article_is_an_error(serve):
    """The server has probabilities, so none at all would hide the reason."""
    answers = {"/v1/models": MODELS, "/v1/completions": {"choices": [{"text": "x"}]}}
    answers["/completion"] = lambda body: choose(body) if len(body["prompt"]) < 4 else None
    server = Server(serve(answers), None, TEMPLATE)
    with pytest.raises(OnionError, match=r"/completion does not answer \(HTTP Error 404: Not Found: null\)"):
        server.log_probabilities([1, 5], [7, 2, 3])


def test_greedy_articles_have_no_penalty_whatever_the_defaults_of_the_server_are(serve):
    asked = []
    written = {"choices": [{"text": "An egg", "finish_reason": "stop"}]}
    answers = {"/v1/models": MODELS, "/v1/completions": lambda body: asked.append(body) or written}
    Server(serve(answers), None, TEMPLATE).write([Probe("Egg", "", [], [])], 9)
    assert asked[0]["repetition_penalty"] == asked[0]["repeat_penalty"] == 1.0


@pytest.mark.parametrize(
    ("models", "asked", "says"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, None, "--url_model: give one of the server's models: a, b."),
        (MODELS, "egg", "--url_model egg: give one of the server's models: onion."),
        ({}, None, "it has none"),
        (None, None, "/v1/models does not answer"),
        (b"<html>", None, "/v1/models does not answer"),
    ],
)
def test_a_server_without_the_model_is_refused_in_one_sentence(serve, models, asked, says):
    with pytest.raises(OnionError) as raised:
        Server(serve({"/v1/models": models}), asked, TEMPLATE)
    assert says in str(raised.value)


@pytest.mark.parametrize("url", ["localhost:8000", "http://127.0.0.1:9", "ftp://x"])
def test_an_address_without_a_server_is_refused(url):
    with pytest.raises(OnionError, match="--url "):
        Server(url, None, TEMPLATE)


def test_a_completion_without_text_is_refused(serve):
    server = Server(serve({"/v1/models": MODELS, "/v1/completions": {"choices": []}}), None, TEMPLATE)
    with pytest.raises(OnionError, match="its answer contains no text"):
        server.write([Probe("Egg", "", [], [])], 9)
    assert server.log_probabilities([1], [2]) is None

"""The server: what it answers, its port, how fast it answers, and how it ends."""

import http.client
import importlib.util
import json
import signal
import socket
import statistics
import threading
import time
import urllib.error
import urllib.request

import pytest
from gradio_client import Client

from onion_lightning.serving.author import TokenQueue

pytestmark = [
    pytest.mark.filterwarnings("default"),  # gradio's own
    pytest.mark.fault,  # starts servers, kills them
]


def client(server):
    return Client(server.url, verbose=False)


def status(request):
    try:
        return urllib.request.urlopen(request, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_the_page_and_its_api_are_answered(server):
    for path, code in (
        ("", 200),
        ("gradio_api/info", 200),
        ("gradio_api/app_id", 200),  # how a page finds that the connection is back
        ("gradio_api/upload", 404),
        ("gradio_api/file=/etc/passwd", 404),
        ("gradio_api/deep_link", 404),
        ("docs", 404),
        ("openapi.json", 404),
    ):
        assert status(server.url + path) == code, path
    upload = urllib.request.Request(server.url + "gradio_api/upload", data=b"x", method="POST")
    assert status(upload) == 404
    beside_the_queue = urllib.request.Request(server.url + "gradio_api/run/look", data=b'{"data": []}', method="POST")
    beside_the_queue.add_header("content-type", "application/json")
    assert status(beside_the_queue) == 404
    elsewhere = urllib.request.Request(server.url, headers={"Host": "example.com"})
    assert status(elsewhere) == 400
    headers = urllib.request.urlopen(server.url).headers
    assert "default-src 'self'" in headers["content-security-policy"]


def seconds_to_first_word(server, values):
    """Ask as a page does: gradio_client itself waits up to 0.1 s between two looks."""
    connection = http.client.HTTPConnection(server.url.split("/")[2])
    began = time.monotonic()
    path = "/gradio_api/call/write"
    connection.request("POST", path, json.dumps({"data": values}), {"content-type": "application/json"})
    event = json.loads(connection.getresponse().read())["event_id"]
    connection.request("GET", f"{path}/{event}")
    answer = connection.getresponse()
    next(line for line in answer if line.startswith(b"data: [[") and json.loads(line[6:])[0][0])
    seconds = time.monotonic() - began
    answer.read()
    connection.close()
    return seconds


def test_the_first_word_comes_at_most_100_ms_later_than_from_generate(server, tuned):
    plain, served = [], []
    for seed in range(7):
        tokens = TokenQueue(tuned.tokenizer.eos_token_id)
        began = time.monotonic()
        work = threading.Thread(target=tuned.write, args=(["Egg Wins"], seed), kwargs={"streamer": tokens})
        work.start()
        tokens.steps.get()
        plain.append(time.monotonic() - began)
        work.join()
        served.append(seconds_to_first_word(server, ["Egg Wins", 60, 0.8, 0.95, 1, 1.0, seed]))
    assert statistics.median(served) < statistics.median(plain) + 0.1


def test_a_signal_ends_the_server_and_the_answer_that_is_being_written(serve):
    server = serve()
    one = client(server)
    job = one.submit("Egg Wins", 1000, seed=1, api_name="/write")
    next(draft for draft in job if draft[0])
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 6
    log = server.log.read_text()
    assert "Traceback" not in log
    assert log.rstrip().endswith("Stopped by signal 15.")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "0"], "--port 0: must be from 1 to 65535."),
        (["--port", "99999"], "--port 99999: must be from 1 to 65535."),
        (["--model.max_new_tokens", "2000"], "--model.max_new_tokens 2000: must be at most 1000 for the page."),
        (["--model.candidates", "5"], "--model.candidates 5: must be at most 4 for the page."),
        (["--model.adapter_strength", "1.8"], "--model.adapter_strength 1.8: must be at most 1.5 for the page."),
        (["--max_queue", "0"], "--max_queue 0: must be at least 1."),
        (["--votes", "/nowhere/votes.sqlite"], "--votes /nowhere/votes.sqlite: there is no folder /nowhere"),
        (["--votes", ""], "--votes '': is empty"),
        (["--host", ""], "--host '': is empty"),
        (["--host", "0.0.0.0"], "--host 0.0.0.0: others could write and vote without a login; give --auth_file FILE"),
        (["--auth_file", ""], "--auth_file '': is empty"),
        (["--auth_file", "nowhere.txt"], "--auth_file nowhere.txt: cannot be read (No such file or directory)"),
        (["--auth_file", "a.txt", "--no_auth", "true"], "--no_auth true: contradicts --auth_file; omit one of them."),
        ([], "--ckpt_path: serve needs the checkpoint of a fine-tuned model"),
        (["--trainer.devices", "0"], "--trainer.devices 0: must be at least 1"),
    ],
)
def test_bad_input_is_one_sentence(refused, words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused("serve", *words)


def test_a_port_that_is_taken_and_a_foreign_host_are_one_sentence_before_weights_load(
    refused, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        sentence = refused("serve", "--port", port)
    assert sentence.startswith(
        f"error: --port {port}: cannot be opened on --host 127.0.0.1 (Address already in use); give"
    )
    sentence = refused("serve", "--port", port, "--host", "203.0.113.1")
    assert "cannot be opened on --host 203.0.113.1 (Cannot assign requested address)" in sentence
    assert not any("Loaded" in record.message for record in caplog.records)


def test_without_gradio_one_sentence_says_what_to_install(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sentence = refused("serve")
    assert sentence.endswith("the page needs gradio, which is not installed; run pip install 'onion_lightning[serve]'.")

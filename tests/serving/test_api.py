"""The page's functions through gradio's API, on a server in a process of its own."""

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
from gradio_client.exceptions import AppError

from onion_lightning.cli.main import main
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


def test_the_functions_by_name_and_a_kill_loses_no_vote(serve, flags, tmp_path, capsys):
    server = serve()
    one = client(server)
    job = one.submit("Egg Wins", seed=3, api_name="/write")
    drafts = list(job)
    assert drafts[0] == [""]
    assert len(drafts[-1][0]) > 20
    assert one.predict("Egg Wins", seed=3, api_name="/write") == drafts[-1]
    assert one.predict("Egg Wins", seed=4, api_name="/write") != drafts[-1]
    several = one.predict("Egg Wins", candidates=3, seed=3, api_name="/write")
    assert len(set(several)) == 3
    compared = one.predict("Egg Wins", seed=3, api_name="/compare")
    assert set(compared) == {"base", "few_shot", "tuned"}
    assert compared["tuned"] == drafts[-1][0]
    two = one.predict("Egg Wins", api_name="/pair")
    voted = one.predict(two["id"], "left", api_name="/vote")
    assert voted["systems"].startswith("Left: ")
    again = one.predict(two["id"], "right", api_name="/vote")
    assert again["systems"].endswith("This pair had been voted on before.")
    assert again["tallies"] == voted["tallies"]
    page = one.predict("Egg Wins", drafts[-1][0], drafts[-1][0].split()[-1], api_name="/look")
    assert page.startswith('<iframe title="Attention" sandbox="allow-scripts"')

    for words, says in (
        ((" ",), "The headline is empty"),
        (("egg " * 100,), "shorten it to 300"),
        (("Egg", 5000), "At most 1000 tokens"),
        (("Egg", 10, -1), "temperature -1.0: must be 0"),
    ):
        with pytest.raises(AppError, match=says):
            one.predict(*words, api_name="/write")
    with pytest.raises(AppError, match="There is nothing to vote on"):
        one.predict("someone else's", "left", api_name="/vote")
    with pytest.raises(AppError, match=r"The phrase &quot;zebra&quot;: "):
        one.predict("Egg Wins", "An egg.", "zebra", api_name="/look")
    with pytest.raises(AppError, match="must be text"):
        one.predict({"not": "text"}, api_name="/write")

    # a kill loses no vote, and they can be exported without a model
    server.process.kill()
    server.process.wait()
    assert (
        main(flags("serve", "--votes", str(tmp_path / "votes.sqlite"), "--export_votes", str(tmp_path / "p.jsonl")))
        == 0
    )
    assert "1 preference pair written to " in capsys.readouterr().err
    [line] = (tmp_path / "p.jsonl").read_text().splitlines()
    assert json.loads(line)["chosen"] == two["left"]
    started = sorted(file.name for file in tmp_path.iterdir())
    assert started == ["p.jsonl", "serve0.log", "votes.sqlite"]


def test_only_the_page_and_its_api_are_answered(server):
    for path, code in (
        ("", 200),
        ("gradio_api/info", 200),
        ("gradio_api/upload", 404),
        ("gradio_api/file=/etc/passwd", 404),
        ("gradio_api/deep_link", 404),
        ("docs", 404),
        ("openapi.json", 404),
    ):
        assert status(server.url + path) == code, path
    upload = urllib.request.Request(server.url + "gradio_api/upload", data=b"x", method="POST")
    assert status(upload) == 404
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


def test_beyond_the_queue_a_request_is_refused_and_the_others_are_answered(serve):
    from gradio_client.utils import QueueError

    server = serve("--max_queue", "2")
    clients = [client(server) for _ in range(8)]
    jobs = [one.submit("Egg Wins", 400, seed=n, api_name="/write") for n, one in enumerate(clients)]
    errors = [job.exception(timeout=120) for job in jobs]
    refused = [error for error in errors if error is not None]
    assert 1 <= len(refused) < len(jobs)
    assert all(isinstance(error, QueueError) and "Queue is full" in str(error) for error in refused)
    assert all(len(job.result()[0]) > 20 for job, error in zip(jobs, errors, strict=True) if error is None)


def test_a_signal_ends_the_server_and_the_answer_that_is_being_written(serve):
    server = serve()
    one = client(server)
    job = one.submit("Egg Wins", 1000, seed=1, api_name="/write")
    while not job.outputs():
        time.sleep(0.02)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 6
    log = server.log.read_text()
    assert "Traceback" not in log
    assert log.rstrip().endswith("Stopped by signal 15.")


def test_a_client_that_leaves_frees_the_model(server):
    gone, other = client(server), client(server)
    job = gone.submit("Egg Wins", 400, seed=1, api_name="/write")
    while not job.outputs():
        time.sleep(0.02)
    began = time.monotonic()
    job.cancel()
    other.predict("Egg Wins", 1, seed=1, api_name="/write")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "0"], "--port 0: must be from 1 to 65535."),
        (["--port", "99999"], "--port 99999: must be from 1 to 65535."),
        (["--max_queue", "0"], "--max_queue 0: must be at least 1."),
        (["--votes", "/nowhere/votes.sqlite"], "--votes /nowhere/votes.sqlite: there is no folder /nowhere"),
        (["--votes", ""], "--votes '': is empty"),
        (["--host", ""], "--host '': is empty"),
        ([], "--ckpt_path: serve needs the checkpoint of a fine-tuned model"),
        (["--trainer.devices", "2"], "--trainer.devices: has no effect, because serve runs on one device"),
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


def test_concurrent_users_get_their_own_articles(server):
    alone = {n: client(server).predict(f"Egg {n} Wins", 20, seed=n, api_name="/write") for n in range(6)}
    together = {}

    def ask(n):
        together[n] = client(server).predict(f"Egg {n} Wins", 20, seed=n, api_name="/write")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone

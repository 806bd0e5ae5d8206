"""The page's functions through gradio's API, on a server in a process of its own."""

import json
import shutil
import threading
import time

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from onion_lightning.cli.main import main

pytestmark = [
    pytest.mark.filterwarnings("default"),  # gradio's own
    pytest.mark.fault,  # starts servers, kills them
]


def client(server):
    return Client(server.url, verbose=False)


def test_the_functions_by_name_and_a_kill_loses_no_vote(serve, trained, flags, tmp_path, capsys):
    server = serve()
    one = client(server)
    job = one.submit("Egg Wins", seed=3, api_name="/write")
    drafts = list(job)
    assert drafts[0] == [""]
    assert len(drafts[-1][0]) > 20
    assert one.predict("Egg Wins", seed=3, api_name="/write") == drafts[-1]
    assert one.predict("Egg Wins", seed=4, api_name="/write") != drafts[-1]
    written = tmp_path / "articles" / "articles.jsonl"
    line = [
        "predict",
        *trained,
        "--data.headlines",
        "Egg Wins",
        "--seed_everything",
        "3",
        "--articles.path",
        str(written),
    ]
    assert main([*line, "--trainer.devices", "1", "--progress", "none"]) == 0
    assert json.loads(written.read_text())["article"] == drafts[-1][0]
    shutil.rmtree(written.parent)
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
        (("Egg", 10, -1), "Temperature -1.0: must be 0"),
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


def test_a_client_that_leaves_frees_the_model(server):
    gone, other = client(server), client(server)
    job = gone.submit("Egg Wins", 400, seed=1, api_name="/write")
    next(draft for draft in job if draft[0])
    began = time.monotonic()
    job.cancel()
    other.predict("Egg Wins", 1, seed=1, api_name="/write")
    assert time.monotonic() - began < 2


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

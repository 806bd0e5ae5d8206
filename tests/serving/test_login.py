"""A page behind a login: each route of the server, gradio's API, logging out, and guesses."""

import http.client
import json
import re
import subprocess
import sys
import urllib.parse

import pytest
from gradio_client import Client
from gradio_client.exceptions import AuthenticationError

from onion_lightning.serving.server import ATTEMPTS

pytestmark = [
    pytest.mark.filterwarnings("default"),  # gradio's own
    pytest.mark.fault,  # starts servers
]

ANNA = {"username": "anna", "password": "egg wins"}
BERT = {"username": "bert", "password": "egg loses"}
# What is answered without a login. Think before you add a route.
OPEN = {
    *("/", "/login", "/logout", "/static/{path:path}", "/assets/{path:path}", "/favicon.ico", "/theme.css"),
    *("/robots.txt", "/manifest.json", "/gradio_api/app_id", "/gradio_api/startup-events"),
}
SECRETS = ("last.ckpt", "Egg Wins", "adapter_strength", "Everything written here", "Compare")
WRITE = ["Egg Wins", 400, 0.8, 0.95, 1, 1.0, 3]


class Door:
    """What a program does at a server with a login."""

    def __init__(self, server):
        self.server = server
        self.url = server.url

    def ask(self, method, path, body=None, cookie="", **headers):
        """Return the status, the headers, and the body of a success, the beginning of a stream."""
        connection = http.client.HTTPConnection(self.url.split("/")[2], timeout=60)
        connection.request(method, path, body, {"content-type": "application/json"} | headers | {"cookie": cookie})
        answer = connection.getresponse()
        kind = answer.headers.get("content-type", "")  # a redirect has none
        read = answer.read1 if kind.startswith("text/event-stream") else answer.read
        text = read().decode(errors="replace") if answer.status == 200 else ""
        connection.close()
        return answer.status, answer.headers, text

    def login(self, form, **headers):
        headers["content-type"] = "application/x-www-form-urlencoded"
        return self.ask("POST", "/login", urllib.parse.urlencode(form), **headers)

    def cookie(self, form=ANNA):
        status, headers, _ = self.login(form)
        assert status == 200
        return "; ".join(line.split(";")[0] for line in headers.get_all("set-cookie"))


@pytest.fixture
def door(locked):
    return Door(locked)


# Prints method and path of every route of gradio's application, also of routers within it: in a process of its own, because
# gradio leaves event loops open.
ROUTES = """
import json
import gradio
from gradio.routes import App

with gradio.Blocks() as page:
    gradio.Markdown("egg")
waiting, found = list(App.create_app(page).routes), []
while waiting:
    route = waiting.pop()
    inner = getattr(route, "original_router", None)
    waiting += inner.routes if inner is not None else []
    found += [(method, route.path) for method in getattr(route, "methods", None) or ()]
print(json.dumps(sorted(set(found))))
"""


def routes():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ROUTES], capture_output=True, text=True, check=True)
    return [tuple(route) for route in json.loads(done.stdout.splitlines()[-1])]


def fill(path, event):
    """Return a path with values that exist, for a route's parameters."""
    known = {"api_name": "write", "event_id": event, "session_hash": "annas", "path": "index.html"}
    return re.sub(r"{(\w+)(:path)?}", lambda found: known.get(found[1], "1"), path)


def test_without_a_login_no_route_reaches_a_function_or_shows_what_is_served(door):
    gone, anna = door.cookie(BERT), door.cookie()
    door.ask("GET", "/logout", cookie=gone)
    # Anna's article, which others know of and try to read, to continue and to stop
    _, _, text = door.ask("GET", "/config", cookie=anna)
    number = next(found["id"] for found in json.loads(text)["dependencies"] if found["api_name"] == "write")
    body = {"data": WRITE, "fn_index": number, "session_hash": "annas"}
    status, _, text = door.ask("POST", "/gradio_api/queue/join", json.dumps(body), anna)
    assert status == 200
    event = json.loads(text)["event_id"]
    body = json.dumps(body | {"event_id": event, "trigger_id": None, "component_id": 1, "fn_name": "f"})
    found = routes()
    assert len(found) > 60
    assert ("POST", "/gradio_api/queue/join") in found
    answered = set()
    for method, route in found:
        path = fill(route, event)
        more = path + "?session_hash=annas&page=x&all_endpoints=1&deep_link=x"
        for asked, cookie in ((path, ""), (more, ""), (path, gone), (path, "access-token-unsecure-1=x")):
            status, headers, text = door.ask(method, asked, body, cookie)
            if status not in (401, 404):
                answered.add(route)
            assert not any(secret in text for secret in SECRETS), (method, asked)
            assert "frame-ancestors" in headers["content-security-policy"], (method, asked)
    assert answered <= OPEN
    connection = http.client.HTTPConnection(door.url.split("/")[2], timeout=60)
    connection.request("GET", "/gradio_api/queue/data?session_hash=annas", headers={"cookie": anna})
    lines = [json.loads(line[6:]) for line in connection.getresponse() if line.startswith(b"data:")]
    connection.close()
    assert [line["msg"] for line in lines].count("process_completed") == 1
    [done] = [line for line in lines if line["msg"] == "process_completed"]
    assert done["success"]
    client = Client(door.url, verbose=False, auth=("anna", "egg wins"))
    assert done["output"]["data"] == [client.predict(*WRITE, api_name="/write")]


def test_other_spellings_of_a_path_and_websockets_are_closed_too(door):
    for path in (
        "/config/",
        "//config",
        "/%63onfig",
        "/CONFIG",
        "/assets/../config",
        "/assets/%2e%2e/config",
        "/./config",
    ):
        status, _, text = door.ask("GET", path)
        assert (status, text) in ((401, ""), (404, ""), (403, "")), path
    headers = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "ZWdn",
    }
    for path in ("/", "/gradio_api/queue/join"):
        assert door.ask("GET", path, **headers)[0] == 403


def test_gradio_client_needs_a_name_and_its_password(door):
    with pytest.raises(AuthenticationError, match="credentials were not provided"):
        Client(door.url, verbose=False)
    with pytest.raises(ValueError, match="Could not login"):
        Client(door.url, verbose=False, auth=("anna", "egg loses"))
    for auth in (("anna", "egg wins"), ("bert", "egg loses")):
        client = Client(door.url, verbose=False, auth=auth)
        assert len(client.predict("Egg Wins", 20, seed=3, api_name="/write")[0]) > 20
        two = client.predict("Egg Wins", 10, api_name="/pair")
        assert client.predict(two["id"], "left", api_name="/vote")["systems"].startswith("Left: ")
        job = client.submit("Egg Wins", 400, seed=1, api_name="/write")
        next(draft for draft in job if draft[0])
        job.cancel()
        assert "/look" in client.view_api(return_format="dict")["named_endpoints"]


def test_after_logging_out_the_cookie_opens_nothing_and_other_names_stay(door):
    anna, too, bert = door.cookie(), door.cookie(), door.cookie({"username": "bert", "password": "egg loses"})
    assert len({anna, too, bert}) == 3
    assert [door.ask("GET", "/config", cookie=cookie)[0] for cookie in (anna, too, bert)] == [200] * 3
    status, headers, _ = door.ask("GET", "/logout", cookie=anna)
    assert status == 302
    assert headers["location"].rstrip("/") == door.url.rstrip("/")
    assert [door.ask("GET", "/config", cookie=cookie)[0] for cookie in (anna, too, bert)] == [401, 401, 200]


def test_the_page_of_another_site_cannot_use_the_cookie(door):
    anna = door.cookie()
    for site, status in (("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)):
        assert door.ask("GET", "/config", cookie=anna, **{"sec-fetch-site": site})[0] == status
        assert door.ask("GET", "/", cookie=anna, **{"sec-fetch-site": site})[0] == 200  # a link


def test_an_address_has_a_few_guesses_and_others_are_not_kept_out(door):
    guess = {"username": "anna", "password": "egg"}
    one = {"x-forwarded-for": "192.0.2.1"}  # a proxy on this machine says for whom it asks
    for _ in range(3):
        assert door.login(ANNA, **one)[0] == 200  # not counted
    assert [door.login(guess, **one)[0] for _ in range(ATTEMPTS + 2)] == [400] * ATTEMPTS + [429] * 2
    assert door.login(ANNA, **one)[0] == 429
    assert door.login(ANNA, **{"x-forwarded-for": "192.0.2.2"})[0] == 200
    large = guess | {"more": "x" * 10_000}
    assert door.login(large)[0] == 413


def test_a_login_neither_answers_on_a_page_without_one(server):
    connection = http.client.HTTPConnection(server.url.split("/")[2])
    connection.request("POST", "/login", "username=a&password=b", {"content-type": "application/x-www-form-urlencoded"})
    assert connection.getresponse().status == 404
    connection.close()

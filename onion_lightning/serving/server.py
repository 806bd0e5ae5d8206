"""Serves the page: nothing is loaded from elsewhere or uploaded, and Ctrl-C ends running answers before the server."""

import logging
import os
import socket
import tempfile
import time
from typing import Any

from onion_lightning.errors import OnionError, reason
from onion_lightning.serving.accounts import Accounts, is_loopback
from onion_lightning.serving.sessions import RateLimit

__all__ = ["check_port", "serve_page"]

# Gradio's page evaluates scripts that it contains, and the maps of `attend` are a frame of their own.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-src 'self'; base-uri 'self';"
    " form-action 'none'; object-src 'none'; frame-ancestors 'self'"
)
# What the page and gradio_client ask for. Gradio also answers requests that write files, such as /gradio_api/upload.
EXACT = ("/config", "/gradio_api/info", "/gradio_api/cancel", "/gradio_api/reset")
PREFIXES = ("/gradio_api/queue/", "/gradio_api/heartbeat/", "/gradio_api/call/", "/gradio_api/run/")
# What is answered without a login as well: the page that asks for one, and what reaches no function.
OPEN = (
    *("/", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    "/gradio_api/startup-events",  # once, by gradio itself
    "/gradio_api/app_id",  # asked for until a lost connection is back
)
OPEN_PREFIXES = ("/assets/", "/static/")
ATTEMPTS = 10  # failed logins of an address in a minute
ABOUT_LOGIN = f"After {ATTEMPTS} wrong passwords within a minute, wait for another minute."
LONGEST_LOGIN = 10_000  # bytes


class Guard:
    """ASGI middleware that forbids the browser every other host, and answers only what the page and its API ask for.

    Args:
        app: gradio's application.
        accounts: whom gradio lets log in, or None if there is no login.
    """

    def __init__(self, app: Any, accounts: Accounts | None) -> None:
        self.app = app
        self.accounts = accounts
        self.attempts = RateLimit(ATTEMPTS, 60, "failed logins")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import PlainTextResponse

        if scope["type"] == "websocket":  # the page has none
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = await self.refuse(scope)
        answer = self.app if refusal is None else PlainTextResponse(refusal[1], refusal[0])

        async def secured(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"content-security-policy", POLICY.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
                if scope["path"] == "/login" and message["status"] == 200:
                    self.attempts.undo(address(scope))
            await send(message)

        if scope["path"] == "/":  # gradio would describe all functions in the page for ?page=...
            scope = {**scope, "query_string": b""}
        await answer(scope, receive, secured)

    async def refuse(self, scope: Any) -> tuple[int, str] | None:
        """Return the status and the words that refuse a request, or None if gradio is to answer it."""
        path, headers = scope["path"], dict(scope["headers"])
        if self.accounts is not None and path == "/login":
            if int(headers.get(b"content-length", LONGEST_LOGIN + 1)) > LONGEST_LOGIN:
                return 413, "Too large"
            try:
                self.attempts.use(address(scope))
            except OnionError as error:
                return 429, str(error)
            return None
        if path in OPEN or path.startswith(OPEN_PREFIXES) or (self.accounts is not None and path == "/logout"):
            return None
        if path not in EXACT and not path.startswith(PREFIXES):
            return 404, "Not found"
        if self.accounts is None:
            return None
        # Over HTTPS, gradio's cookie is sent with requests that pages of other sites make.
        if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            return 403, "Refused: asked for by a page of another site"
        return None if await self.logged_in(scope) else (401, "Log in first")

    async def logged_in(self, scope: Any) -> bool:
        """Ask gradio whether a request comes with the cookie of a login."""
        found: list[int] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            found.append(message.get("status", 0))

        path = "/gradio_api/login_check"
        question = {"method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await self.app({**scope, **question}, receive, send)
        return found[0] == 200


def address(scope: Any) -> str:
    return str(scope["client"][0]) if scope.get("client") else ""


def check_port(host: str, port: int) -> None:
    """Check that a port can be opened. Called before the model is loaded, which takes longer.

    Raises:
        OnionError: the port is taken, or the host is not one of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise OnionError(
            f"--port {port}: cannot be opened on --host {host} ({reason(error)}); give another port, or an address of this"
            " machine."
        ) from error


def launch(page: Any, host: str, port: int, max_queue: int, share: bool, accounts: Accounts | None) -> str:
    """Start the server in a thread, and return its address."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from onion_lightning.serving.page.style import CSS, theme

    local = is_loopback(host) and not share
    # Under another host name, a page elsewhere could reach this one.
    hosts = [host, "127.0.0.1", "localhost"] if local else ["*"]
    # No function may be called beside the queue.
    page.queue(max_size=max_queue, default_concurrency_limit=None, api_open=False)
    try:
        _, url, shared = page.launch(
            server_name=host, server_port=port, share=share, prevent_thread_lock=True, quiet=True, inbrowser=False,
            inline=False, show_error=False, enable_monitoring=False, ssr_mode=False, pwa=False, mcp_server=False,
            run_history=False, footer_links=[], theme=theme(), css=CSS,
            auth=accounts and accounts.admit, auth_message=ABOUT_LOGIN,
            app_kwargs={
                "middleware": [
                    Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(Guard, accounts=accounts)
                ],
                "docs_url": None, "redoc_url": None, "openapi_url": None,
            },
        )  # fmt: skip
    except Exception as error:  # gradio raises its own if it cannot reach itself
        raise OnionError(
            f"--port {port}: cannot be opened on --host {host} ({reason(error)}); give another port."
        ) from error
    page.share = False  # otherwise the page would load its script from another host
    return str(shared or url)


def serve_page(
    desk: Any, host: str, port: int, max_queue: int, share: bool, accounts: Accounts | None, announce: Any
) -> None:
    """Serve the page until a signal arrives.

    Args:
        desk: what the page does.
        host: address to listen on.
        port: port to listen on.
        max_queue: number of requests that may wait.
        share: whether gradio opens a public address.
        accounts: who may log in, or None to ask nobody.
        announce: called with the address once it answers.
    """
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost", host]))
    for name in ("httpx", "uvicorn.error"):  # gradio asks its own server whether it is there
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # read when gradio is imported
        from onion_lightning.serving.page.tabs import build_page

        page = build_page(desk, login=accounts is not None)
        announce(launch(page, host, port, max_queue, share, accounts))
        try:
            while True:
                time.sleep(0.5)
        finally:
            close(page, desk)


def close(page: Any, desk: Any, seconds: float = 3.0) -> None:
    """End running answers, so that each browser gets its last words, and close the server."""
    desk.sessions.close_all()
    until = time.monotonic() + seconds
    while desk.sessions.running and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)
    page.close(verbose=False)

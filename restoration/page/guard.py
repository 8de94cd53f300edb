"""What stands before the page: the names it answers to, and the headers that tell browsers what it may do."""

from __future__ import annotations

import ipaddress
import os
import secrets
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restoration.page.state import EXAMPLES
from restoration.page.visitors import listening

STATIC = Path(__file__).parent / "static"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# Gradio compiles what its events do in the browser ('unsafe-eval') and sets styles on elements; it needs
# nothing from other sites
POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'self'",
}
SPACE_FRAMES = " https://huggingface.co https://*.huggingface.co"  # a Space is shown in a frame of theirs


def allowed_hosts() -> set[str]:
    """Names of this server: loopback, GRADIO_SERVER_NAME, the Space's, and RESTORATION_HOSTS
    (comma-separated, * for all).
    """
    named = [os.environ.get(name, "") for name in ("SPACE_HOST", "RESTORATION_HOSTS", "GRADIO_SERVER_NAME")]
    return LOOPBACK | {
        host.strip().strip("[]").lower() for host in ",".join(named).split(",") if host.strip()
    }


def host_name(authority: str) -> str:
    """The name in a Host header or an origin, without port; "" for what is none."""
    try:
        return (urlsplit(authority if "//" in authority else f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class Guard:
    """ASGI middleware: foreign names and links into sessions are refused, answers carry their policy, and
    open streams count as listeners.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.hosts = allowed_hosts()
        self.space = bool(os.environ.get("SPACE_ID"))
        self.policy = POLICY | (
            {"frame-ancestors": POLICY["frame-ancestors"] + SPACE_FRAMES} if self.space else {}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not all(map(self.is_ours, headers.getlist("host") or [""])) or not self.origin_is_ours(
            scope, headers
        ):
            refusal = "This server does not answer to that name; RESTORATION_HOSTS configures its names."
            await PlainTextResponse(refusal, 403)(scope, receive, send)
            return
        if scope["path"].endswith("/deep_link"):
            await PlainTextResponse("Nothing links into a visitor's session.", 404)(scope, receive, send)
            return
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        with listening(scope["path"], query.get("session_hash", [""])[0]):
            await self.app(scope, receive, Answer(send, self.policy))

    def is_ours(self, authority: str) -> bool:
        """Whether the server answers to that name: otherwise a page of another site, its name pointed here,
        would read answers.
        """
        name = host_name(authority)
        return name in self.hosts or "*" in self.hosts or (self.space and is_number(name))

    def origin_is_ours(self, scope: Scope, headers: Headers) -> bool:
        """Whether a request that changes something comes from no page of another site; a Space is for all
        sites.
        """
        origin = headers.get("origin", "")
        return (
            self.space
            or not origin
            or scope.get("method") in {"GET", "HEAD", "OPTIONS"}
            or self.is_ours(origin)
        )


def is_number(name: str) -> bool:
    """Whether a host is a numeric address: no other site's name can be made to point here with it."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Answer:
    """`send` of one request: adds headers and, to the scripts of an HTML page, the number that the policy
    lets run.
    """

    def __init__(self, send: Send, policy: dict[str, str]) -> None:
        self.send, self.policy = send, policy
        self.nonce = secrets.token_urlsafe(16)
        self.start: Message | None = None  # of an HTML page, until all of it is there
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"  # the address of a link with a picture is a secret
            page = headers.get("content-type", "").startswith("text/html")
            scripts = self.policy["script-src"] + (f" 'nonce-{self.nonce}'" if page else "")
            policy = self.policy | {"script-src": scripts}
            headers["Content-Security-Policy"] = "; ".join(
                f"{name} {value}" for name, value in policy.items()
            )
            if page:
                self.start = message
                return
        elif message["type"] == "http.response.body" and self.start is not None:
            self.body += message.get("body", b"")
            if message.get("more_body"):
                return
            # Gradio writes data into a page with < as \\u003c: every tag is its own
            body = self.body.replace(b"<script", f'<script nonce="{self.nonce}"'.encode())
            MutableHeaders(scope=self.start)["Content-Length"] = str(len(body))
            await self.send(self.start)
            message = {"type": "http.response.body", "body": body}
        await self.send(message)


MIDDLEWARE = [Middleware(Guard)]
ROUTES = [
    Mount("/restoration/examples", StaticFiles(directory=EXAMPLES)),
    Mount("/restoration", StaticFiles(directory=STATIC)),
]

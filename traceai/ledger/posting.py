"""Asking another machine: one HTTP POST with an end, by the standard library alone."""

import http.client
import ipaddress
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import IO
from urllib.parse import urlsplit

from traceai.errors import InputError, UnreachableError
from traceai.ledger.printing import shown

# What a witness or a timestamp authority has to say is far shorter.
LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True)
class Reply:
    """What came back, whatever its status: `content_type` in lower case and without parameters."""

    status: int
    content_type: str
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Evidence goes where the operator said, and nowhere else."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def check_url(url: str) -> str:
    """`url`, if a POST can go there.

    Raises:
        InputError: not http or https, no host, a user in it, or white space or control characters.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        # Addresses go on record and into messages; a password must not.
        usable = usable and parts.username is None and parts.password is None
    except ValueError:
        usable = False
    if not usable or not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise InputError(f"{url!r} is no address to ask; write it as https://host/path, in ASCII.")
    return url


def post(url: str, body: bytes, content_type: str, timeout: float) -> Reply:
    """Send `body` and return the answer, within `timeout` seconds from now, however slowly it trickles in.

    Redirects are not followed: they come back as the answer.

    Raises:
        InputError: `url` is none.
        UnreachableError: no answer in time, none that is HTTP, or one of more than `LONGEST_ANSWER` bytes.
    """
    check_url(url)
    answer: list[Reply | Exception] = []

    def ask() -> None:
        try:
            answer.append(_ask(url, body, content_type, timeout))
        except Exception as error:  # noqa: BLE001  # handed to the caller's thread, below
            answer.append(error)

    # A socket's timeout starts anew with every byte. The thread is left behind where the answer takes too long: it holds
    # nothing but its socket.
    asking = threading.Thread(target=ask, daemon=True, name=f"POST {url}")
    asking.start()
    asking.join(timeout)
    found = answer[0] if answer else TimeoutError()
    if isinstance(_cause(found), TimeoutError):
        raise UnreachableError(f"{url} did not answer within {timeout:g} s.")
    if isinstance(found, (OSError, http.client.HTTPException, ValueError)):  # URLError is an OSError
        raise UnreachableError(f"{url} cannot be reached ({_reason(found)}).") from found
    if isinstance(found, Exception):
        raise found
    return found


def _ask(url: str, body: bytes, content_type: str, timeout: float) -> Reply:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if _is_local(url):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    headers = {"Content-Type": content_type, "User-Agent": "traceai"}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310  # check_url allows http and https
    try:
        with opener.open(request, timeout=timeout) as response:
            return _read(url, response.status, response.headers, response)
    except urllib.error.HTTPError as response:
        with response:
            return _read(url, response.code, response.headers, response)


def _read(url: str, status: int, headers: Message, body: IO[bytes]) -> Reply:
    found = body.read(LONGEST_ANSWER + 1)
    if len(found) > LONGEST_ANSWER:
        raise UnreachableError(f"{url} answered with more than {LONGEST_ANSWER} bytes.")
    return Reply(status, headers.get_content_type() if headers.get("Content-Type") else "", found)


def _is_local(url: str) -> bool:
    """A proxy cannot reach this machine's own services."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _cause(found: Reply | Exception) -> object:
    return found.reason if isinstance(found, urllib.error.URLError) else found


def _reason(error: Exception) -> str:
    found = _cause(error)
    said = str(getattr(found, "strerror", None) or found or type(found).__name__)
    # Some of it may be the other side's words.
    return shown(said[:200])

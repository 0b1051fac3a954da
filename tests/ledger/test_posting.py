import socket
import threading
import time

import pytest

from tests.ledger.answering import answering
from traceai.errors import InputError, UnreachableError
from traceai.ledger.posting import LONGEST_ANSWER, Reply, check_url, post


def test_an_answer_comes_back_whatever_its_status() -> None:
    for status in (200, 404, 503):
        with answering(lambda body, status=status: (status, "Text/Plain; charset=utf-8", body[::-1])) as url:
            assert post(url, b"abc", "text/plain", 20) == Reply(status, "text/plain", b"cba")


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    with answering(lambda _: (status, "text/plain", b"")) as url:
        assert post(url, b"", "text/plain", 20).status == status


def test_the_longest_answer_is_read_and_no_longer_one() -> None:
    with answering(lambda body: (200, "text/plain", b"x" * int(body))) as url:
        assert len(post(url, b"%d" % LONGEST_ANSWER, "text/plain", 20).body) == LONGEST_ANSWER
        with pytest.raises(UnreachableError, match="answered with more than"):
            post(url, b"%d" % (LONGEST_ANSWER + 1), "text/plain", 20)


def test_an_answer_that_trickles_in_has_an_end() -> None:
    """Each byte comes in time, and the answer never does."""
    done = threading.Event()

    def trickle(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not done.wait(0.02):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, args=(listening,))
        thread.start()
        before = time.monotonic()
        try:
            with pytest.raises(UnreachableError, match="did not answer within"):
                post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"", "text/plain", 0.5)
            assert time.monotonic() - before < 10
        finally:
            done.set()
            thread.join()


def test_what_is_not_http_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def babble() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(UnreachableError, match="cannot be reached"):
            post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"", "text/plain", 20)
        thread.join()


def test_nobody_there_is_unreachable() -> None:
    for url in ("http://127.0.0.1:1/", "http://does-not-exist.invalid/"):
        with pytest.raises(UnreachableError, match="cannot be reached"):
            post(url, b"", "text/plain", 20)


def test_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(lambda _: (200, "text/plain", b"")) as url:
        assert post(url, b"", "text/plain", 20).status == 200
        assert post(url.replace("127.0.0.1", "localhost"), b"", "text/plain", 20).status == 200


@pytest.mark.parametrize("url", ["http://x.example", "https://x.example:8443/a/b?c=d", "http://[::1]:80/"])
def test_web_addresses_can_be_asked(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    ["", "x.example", "file:///etc/passwd", "ftp://x.example", "http://", "http:///path", "http://x y/", "http://x\n/",
     "http://x:99999/", "http://x:0/", "http://[::1", "http://xé/", "javascript:alert(1)", "http://user:secret@x/"],
)  # fmt: skip
def test_everything_else_cannot(url: str) -> None:
    with pytest.raises(InputError, match="no address to ask"):
        check_url(url)

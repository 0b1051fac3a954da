"""RFC 3161 against a real authority: `openssl ts` behind a small HTTP server, with certificates made for the run."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.ledger.answering import Answer, answering
from traceai.errors import InputError, TimestampError, UnreachableError
from traceai.ledger.signing.timestamping import Timestamp, load_certificates, request_timestamp, verify_timestamp

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")

TEXT = b"plant-a.example/line\n3\n7zr0xjtEPXy9qPrS1IMB9rnr6h1tqSNyVdYqUV0kLqk=\n"
CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
CN = nobody
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[tsa]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = critical, serverAuth
[stamping]
serial = {folder}/serial
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
"""


def openssl(folder: Path, *arguments: object) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *map(str, arguments)], cwd=folder, check=True, capture_output=True)


@dataclass
class Authority:
    """A CA and a timestamp authority that it vouches for."""

    folder: Path
    url: str = ""

    @classmethod
    def create(cls, folder: Path, extensions: str = "tsa") -> "Authority":
        folder.mkdir()
        (folder / "openssl.cnf").write_text(CONFIGURATION.format(folder=folder))
        (folder / "serial").write_text("1000")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "openssl.cnf")
        openssl(
            folder,
            "req",
            "-x509",
            *key,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=Test CA",
            "-extensions",
            "ca",
        )
        openssl(folder, "req", *key, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=Test TSA")
        openssl(
            folder, "x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "tsa.pem",
            "-extfile", "openssl.cnf", "-extensions", extensions,
        )  # fmt: skip
        return cls(folder)

    @property
    def certificates(self) -> list:
        return load_certificates(self.folder / "ca.pem")

    def stamp(self, query: bytes) -> bytes:
        (self.folder / "query").write_bytes(query)
        openssl(
            self.folder,
            "ts",
            "-reply",
            "-config",
            "openssl.cnf",
            "-section",
            "stamping",
            "-queryfile",
            "query",
            "-out",
            "reply",
        )
        return (self.folder / "reply").read_bytes()

    def respond(self, text: bytes) -> bytes:
        """A timestamp of `text` that no client of ours asked for."""
        (self.folder / "text").write_bytes(text)
        openssl(self.folder, "ts", "-query", "-data", "text", "-sha256", "-cert", "-out", "query")
        return self.stamp((self.folder / "query").read_bytes())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("tsa") / "authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("tsa") / "stranger")


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(answering(answer))


def reply(authority: Authority) -> Answer:
    return lambda query: (200, "application/timestamp-reply", authority.stamp(query))


@pytest.fixture
def stamped(authority: Authority, serve: Callable[[Answer], str]) -> Timestamp:
    return request_timestamp(TEXT, serve(reply(authority)), authority.certificates)


def test_an_authority_stamps_and_the_stamp_verifies_offline(authority: Authority, stamped: Timestamp) -> None:
    assert abs(stamped.at - datetime.now(UTC)) < timedelta(minutes=5)
    assert stamped.policy == "1.2.3.4.1"
    assert stamped.serial >= 0x1001
    assert verify_timestamp(stamped.response, TEXT, authority.certificates) == stamped


def test_openssl_verifies_what_is_kept(authority: Authority, stamped: Timestamp) -> None:
    (authority.folder / "kept").write_bytes(stamped.response)
    (authority.folder / "signed").write_bytes(TEXT)
    openssl(authority.folder, "ts", "-verify", "-in", "kept", "-data", "signed", "-CAfile", "ca.pem")


def test_another_text_is_refused(authority: Authority, stamped: Timestamp) -> None:
    with pytest.raises(TimestampError, match="of another text"):
        verify_timestamp(stamped.response, TEXT + b"\n", authority.certificates)


def test_another_authority_is_refused(stranger: Authority, stamped: Timestamp) -> None:
    with pytest.raises(TimestampError, match="do not vouch"):
        verify_timestamp(stamped.response, TEXT, stranger.certificates)


def test_nobody_trusted_is_nothing_verified(stamped: Timestamp) -> None:
    with pytest.raises(TimestampError, match="only where a CA certificate is named"):
        verify_timestamp(stamped.response, TEXT, [])


def test_a_certificate_that_is_not_for_timestamps_cannot_stamp(authority: Authority) -> None:
    """The same CA vouches for web servers too. One of them forges what the authority would say, with its own signature."""
    folder = authority.folder
    (folder / "genuine").write_bytes(authority.respond(TEXT))
    openssl(folder, "ts", "-reply", "-in", "genuine", "-token_out", "-out", "token")
    openssl(folder, "cms", "-verify", "-noverify", "-inform", "DER", "-in", "token", "-out", "statement")
    openssl(
        folder, "x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "server.pem",
        "-extfile", "openssl.cnf", "-extensions", "server",
    )  # fmt: skip

    def forge(certificate: str) -> bytes:
        openssl(
            folder, "cms", "-sign", "-binary", "-nodetach", "-in", "statement", "-signer", certificate, "-inkey", "tsa.key",
            "-outform", "DER", "-econtent_type", "1.2.840.113549.1.9.16.1.4", "-md", "sha256", "-out", "forged",
        )  # fmt: skip
        token = (folder / "forged").read_bytes()
        granted = bytes.fromhex("3003020100")
        return b"\x30\x82" + (len(granted) + len(token)).to_bytes(2, "big") + granted + token

    assert verify_timestamp(forge("tsa.pem"), TEXT, authority.certificates)
    with pytest.raises(TimestampError, match="do not vouch"):
        verify_timestamp(forge("server.pem"), TEXT, authority.certificates)


def test_every_altered_byte_is_refused_or_alters_nothing(authority: Authority, stamped: Timestamp) -> None:
    refused = 0
    for position in range(len(stamped.response)):
        for mask in (0x01, 0x80):
            altered = bytearray(stamped.response)
            altered[position] ^= mask
            try:
                found = verify_timestamp(bytes(altered), TEXT, authority.certificates)
            except TimestampError:
                refused += 1
            else:
                assert (found.at, found.serial, found.policy) == (stamped.at, stamped.serial, stamped.policy)
    assert refused > 1.9 * len(stamped.response)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_response_is_refused(authority: Authority, stamped: Timestamp, length: int) -> None:
    with pytest.raises(TimestampError, match="damaged"):
        verify_timestamp(stamped.response[:length], TEXT, authority.certificates)


def test_bytes_behind_the_response_are_refused(authority: Authority, stamped: Timestamp) -> None:
    with pytest.raises(TimestampError, match="damaged"):
        verify_timestamp(stamped.response + b"\0", TEXT, authority.certificates)


def test_an_answer_to_an_older_question_is_not_taken(authority: Authority, serve: Callable[[Answer], str]) -> None:
    replayed = authority.respond(TEXT)
    url = serve(lambda _: (200, "application/timestamp-reply", replayed))
    assert verify_timestamp(replayed, TEXT, authority.certificates)
    with pytest.raises(TimestampError, match="another request"):
        request_timestamp(TEXT, url, authority.certificates)


def test_an_authority_that_refuses_is_quoted(
    authority: Authority, serve: Callable[[Answer], str], tmp_path: Path
) -> None:
    configuration = authority.folder / "openssl.cnf"
    before = configuration.read_text()
    configuration.write_text(before.replace("digests = sha256", "digests = sha512"))
    try:
        with pytest.raises(TimestampError, match=r"refused \(Message digest algorithm is not supported\)"):
            request_timestamp(TEXT, serve(reply(authority)), authority.certificates)
    finally:
        configuration.write_text(before)


@pytest.mark.parametrize(
    "answer",
    [
        (500, "text/plain", b"no"),
        (302, "text/plain", b""),
        (200, "text/html", b"<p>Please log in"),
        (200, "application/timestamp-reply; x=y", b"\0"),
    ],
)
def test_what_is_no_timestamp_is_said_to_be_none(
    authority: Authority, serve: Callable[[Answer], str], answer: tuple[int, str, bytes]
) -> None:
    with pytest.raises((UnreachableError, TimestampError), match=r"no timestamp|damaged"):
        request_timestamp(TEXT, serve(lambda _: answer), authority.certificates)


def test_an_authority_that_is_down_is_unreachable(authority: Authority) -> None:
    with pytest.raises(UnreachableError, match="cannot be reached"):
        request_timestamp(TEXT, "http://127.0.0.1:1/tsa", authority.certificates)


def test_an_authority_that_does_not_finish_is_unreachable(authority: Authority, serve: Callable[[Answer], str]) -> None:
    never = threading.Event()

    def answer(_: bytes) -> tuple[int, str, bytes]:
        never.wait(30)
        return 200, "application/timestamp-reply", b""

    try:
        with pytest.raises(UnreachableError, match="did not answer within"):
            request_timestamp(TEXT, serve(answer), authority.certificates, timeout=0.2)
    finally:
        never.set()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "tsa.example", "http://", "http://a b/", "http://[::1", "ftp://x/"]
)
def test_only_a_web_address_is_asked(authority: Authority, url: str) -> None:
    with pytest.raises(InputError, match="no address to ask"):
        request_timestamp(TEXT, url, authority.certificates)


def test_a_file_without_certificates_is_named(tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_certificates(tmp_path / "nowhere.pem")
    for content in (b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        (tmp_path / "junk.pem").write_bytes(content)
        with pytest.raises(InputError, match="holds no X"):
            load_certificates(tmp_path / "junk.pem")
    openssl(authority.folder, "x509", "-in", "ca.pem", "-outform", "DER", "-out", str(tmp_path / "ca.der"))
    assert load_certificates(tmp_path / "ca.der") == authority.certificates

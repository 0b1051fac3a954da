"""RFC 3161 timestamps: an outside authority's signature that a checkpoint existed at a time.

What is stamped is the signed text of a checkpoint, as UTF-8 and with its last newline: origin, size and root, and with them
every entry before it. The response is kept as it came (DER, `TimeStampResp`), so that `openssl ts -verify -in RESPONSE -data
TEXT -CAfile CA` verifies it too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import rfc3161_client
from cryptography import x509
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, TimeStampResponse, VerifierBuilder

from traceai.errors import InputError, TimestampError, UnreachableError
from traceai.ledger.posting import post


@dataclass(frozen=True)
class Timestamp:
    """What a verified response states.

    Attributes:
        at: the authority's time, UTC.
        serial: the authority's number of this timestamp.
        policy: the OID of the policy it was made under, dotted.
        response: the DER bytes of the response.
    """

    at: datetime
    serial: int
    policy: str
    response: bytes


def load_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, or of a DER file with one: who is trusted to stamp.

    Raises:
        InputError: the file cannot be read, or holds none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name the CA certificate's file.") from error
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise InputError(f"{path} holds no X.509 certificate in PEM or DER form.") from error


def request_timestamp(text: bytes, url: str, authorities: Sequence[x509.Certificate], timeout: float = 30) -> Timestamp:
    """Have `text` stamped by the authority at `url`, and verify the answer before anybody relies on it.

    Args:
        text: the signed text of a checkpoint.
        authorities: certificates that are trusted to have issued the authority's own, or the authority's own.
        timeout: seconds, from asking to the last byte of the answer.

    Raises:
        UnreachableError: no answer, or one that is no timestamp response.
        TimestampError: the authority refused, or its answer does not verify.
    """
    request = TimestampRequestBuilder().data(text).hash_algorithm(HashAlgorithm.SHA256).build()
    reply = post(url, request.as_bytes(), "application/timestamp-query", timeout)
    if reply.status != 200 or reply.content_type != "application/timestamp-reply":
        raise UnreachableError(
            f"{url} answered with status {reply.status} and {reply.content_type or 'no content type'}, which is no "
            "timestamp (RFC 3161, section 3.4)."
        )
    return _verified(reply.body, text, authorities, request.nonce)


def verify_timestamp(response: bytes, text: bytes, authorities: Sequence[x509.Certificate]) -> Timestamp:
    """Verify a kept response, offline, now or in many years: certificates have to be valid at the time that it states.

    Raises:
        TimestampError: damaged, of another text, or not by an authority that is trusted. Nothing else is ever raised.
    """
    return _verified(response, text, authorities, None)


def _verified(data: bytes, text: bytes, authorities: Sequence[x509.Certificate], nonce: int | None) -> Timestamp:
    if not authorities:
        raise TimestampError("A timestamp can be trusted only where a CA certificate is named.")
    try:
        response = rfc3161_client.decode_timestamp_response(data)
        _require_granted(response)
        verifier = VerifierBuilder(roots=_distinct(authorities), nonce=nonce).build()
        verifier.verify_message(response, text)
        info = response.tst_info
        return Timestamp(info.gen_time, info.serial_number, info.policy.dotted_string, data)
    except (rfc3161_client.VerificationError, ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise TimestampError(f"The timestamp does not hold: {_plainly(error)}.") from error


def _require_granted(response: TimeStampResponse) -> None:
    # RFC 3161, section 2.4.2: 0 granted, 1 granted with modifications; others carry no token.
    if response.status not in (0, 1):
        said = "; ".join(response.status_string).rstrip(".") or "no reason given"
        raise TimestampError(f"The timestamp authority refused ({said}).")


def _plainly(error: Exception) -> str:
    """What rfc3161-client found, for somebody who does not read ASN.1."""
    found = str(error)
    if "messages" in found:
        return "it is of another text"
    if found.startswith("Nonce"):
        return "it answers another request"
    if found.startswith("Error while verifying certificates"):
        return "it was altered, or the certificates that are trusted do not vouch for who signed it"
    if isinstance(error, rfc3161_client.VerificationError):
        return found.rstrip(".")
    return "it is damaged, no RFC 3161 response, or one that is not strict DER"


def _distinct(certificates: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    return list(dict.fromkeys(certificates))

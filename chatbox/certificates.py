"""The certificate that a server makes for itself, and the fingerprint by which people know it.

Nobody vouches for such a certificate. Clients remember the *key* that is in it, as ssh does, so the
key is made once and stays, and the certificate around it is renewed before it runs out: for those
who remember the key nothing changes.

A fingerprint is the sha-256 of the public key (the SubjectPublicKeyInfo in DER, RFC 5280 section
4.1.2.7; the same bytes as in RFC 7469), so it is the same for every certificate with that key. It
is read out in groups: ``1f2e 3d4c ...``, sixteen of four hexadecimal digits. Also::

    openssl x509 -in tls-cert.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chatbox.errors import LocalError
from chatbox.files import write_whole

__all__ = [
    "CERTIFICATE_FILE",
    "KEY_FILE",
    "RENEW_DAYS",
    "VALID_DAYS",
    "fingerprint",
    "parse_fingerprint",
    "refresh_self_signed",
    "show_fingerprint",
]

KEY_FILE: Final = "tls-key.pem"
CERTIFICATE_FILE: Final = "tls-cert.pem"
"""What the files are called in the state directory."""

VALID_DAYS: Final = 397
"""How long a certificate of ours is good: as long as other programs let any be (the CA/Browser
Forum's limit until 2026)."""

RENEW_DAYS: Final = 60
"""How long before its end it is renewed: a server that runs once a month renews it in time."""

_BACKDATED: Final = timedelta(days=1)
"""Clocks differ; a certificate made now is good for a client whose clock is behind."""

_MAX_PEM_BYTES: Final = 1 << 20


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the fingerprint of the public key in a certificate: 64 hexadecimal digits."""
    encoded = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).hexdigest()


def show_fingerprint(digits: str) -> str:
    """Write a fingerprint so that people can read it out."""
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def parse_fingerprint(text: str) -> str:
    """Read a fingerprint as people write it: blanks, colons and capitals do not matter.

    Raises ValueError with a sentence if it is none.
    """
    digits = re.sub(r"[\s:-]", "", text).lower().removeprefix("sha256")
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise ValueError("A fingerprint has 64 hexadecimal digits.")
    return digits


def refresh_self_signed(folder: str, now: float) -> tuple[str, str]:
    """See to it that `folder` has a key and a certificate that is good for a while.

    Returns the paths of the key and of the certificate. `now` is in seconds since the epoch. Raises
    OSError, or LocalError in words if what is there cannot be used.
    """
    key_path = os.path.join(folder, KEY_FILE)
    certificate_path = os.path.join(folder, CERTIFICATE_FILE)
    key = _own_key(key_path)
    at = datetime.fromtimestamp(now, timezone.utc)
    if not _is_good(certificate_path, key, at):
        certificate = _certify(key, at)
        write_whole(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    return key_path, certificate_path


def _own_key(path: str) -> ec.EllipticCurvePrivateKey:
    """Read the key, or make it. Of several servers that make it at once, one wins."""
    if not os.path.exists(path):
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with suppress(FileExistsError):
            write_whole(path, made, replace=False)
    try:
        key = serialization.load_pem_private_key(_read(path), None)
    except (ValueError, TypeError) as error:
        raise LocalError(
            f"{path} is not a key of ours. Put the right one back; or remove it, and all clients"
            " must be told the new fingerprint."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise LocalError(f"{path} is a key of another kind; --listen tls:FOLDER takes any.")
    return key


def _is_good(path: str, key: ec.EllipticCurvePrivateKey, at: datetime) -> bool:
    """Whether the certificate is for this key, and need not be renewed yet."""
    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except (FileNotFoundError, ValueError):
        return False
    return (
        certificate.public_key() == key.public_key()
        and certificate.not_valid_before_utc <= at
        and at < certificate.not_valid_after_utc - timedelta(days=RENEW_DAYS)
    )


def _certify(key: ec.EllipticCurvePrivateKey, at: datetime) -> x509.Certificate:
    """Sign a certificate for this key with the key itself (RFC 5280).

    It names no host but this one: whoever knows the key need not look at names, and a laptop does
    not tell everybody what it is called.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chatbox")])
    usage = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BACKDATED)
        .not_valid_after(at + timedelta(days=VALID_DAYS) - _BACKDATED)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_PEM_BYTES)

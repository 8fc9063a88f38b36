"""The certificates in a folder: each with its key, the authorities above it, and its names.

All files that end in ``.pem`` count, in folders below as well, whatever is in them and in whatever
order, such as certbot's four: what belongs together is found by the keys, and an authority by whom
it says it is. An authority that vouches for itself is not sent: who does not know it would not
believe it (RFC 8446 section 4.4.2). Nor is one sent twice, though authorities may vouch for each
other in a circle.

Way not taken: what Twisted has for its ``tls:`` endpoints. It follows such a circle for ever, and
the shortest is an authority that vouches for itself, which many a file has at its end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from chatbox.errors import LocalError

__all__ = ["Identity", "read_folder"]

_find_blocks: Final = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL
).finditer


class Identity(NamedTuple):
    """What a server can show, and prove."""

    names: tuple[str, ...]
    """The hosts that it is for, as in a certificate: the first label may be ``*``."""
    certificate: x509.Certificate
    key: PrivateKeyTypes
    chain: tuple[x509.Certificate, ...]
    """The authorities above it as far as they are there, the nearest first."""


def read_folder(folder: str) -> list[Identity]:
    """Find all certificates that have their key and names of hosts, in the order of the files.

    Raises LocalError, with the path, if a file makes no sense, or OSError.
    """
    keys: dict[bytes, PrivateKeyTypes] = {}
    certificates: list[x509.Certificate] = []
    for path in _files(folder):
        for kind, block in _blocks(path):
            try:
                if kind.endswith("PRIVATE KEY"):
                    key = load_pem_private_key(block, None)
                    keys[_encoded(key.public_key())] = key
                elif kind == "CERTIFICATE":
                    certificates.append(x509.load_pem_x509_certificate(block))
            except Exception as error:  # it has many kinds
                what = "certificate" if kind == "CERTIFICATE" else "key"
                raise LocalError(f"the {what} in {path} cannot be read") from error
    # Of several for one key, or one name, the newest counts.
    certificates.sort(key=lambda one: one.not_valid_before_utc)
    own = {encoded: one for one in certificates if (encoded := _encoded(one.public_key())) in keys}
    above = {one.subject: one for one in certificates if _encoded(one.public_key()) not in keys}
    return [
        Identity(names, own[encoded], key, tuple(_chain(own[encoded], above)))
        for encoded, key in keys.items()
        if encoded in own and (names := tuple(_names(own[encoded])))
    ]


def _files(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(place, name) for name in sorted(names) if name.endswith(".pem"))


def _blocks(path: str) -> Iterator[tuple[str, bytes]]:
    """Yield what is in a file, with its kind. Raises LocalError if some of it has no end."""
    with open(path, "rb") as file:
        data = file.read()
    found = [(match[1].decode(), match[0]) for match in _find_blocks(data)]
    if len(found) != data.count(b"-----BEGIN "):
        raise LocalError(f"{path} is damaged")
    yield from found


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(certificate: x509.Certificate) -> Iterable[str]:
    with suppress(x509.ExtensionNotFound):
        kind = x509.SubjectAlternativeName
        return certificate.extensions.get_extension_for_class(kind).value.get_values_for_type(
            x509.DNSName
        )
    return ()


def _chain(
    certificate: x509.Certificate, above: dict[x509.Name, x509.Certificate]
) -> Iterator[x509.Certificate]:
    above = dict(above)
    while (one := above.pop(certificate.issuer, None)) and one.subject != one.issuer:
        yield one
        certificate = one

"""Certificates in a folder: what belongs together is found, and nothing is followed for ever."""

from __future__ import annotations

import contextlib
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from chatbox.errors import LocalError
from chatbox.pems import read_folder
from chatbox.tls import check_endpoint, load_from

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
WITHOUT_PASSWORD = NoEncryption()


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key that nobody else has."""
    return ec.generate_private_key(ec.SECP256R1())


def name_of(text: str) -> x509.Name:
    """What a certificate calls somebody."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certify(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    *names: str,
    made_at: datetime = NOON,
) -> str:
    """A certificate in PEM. Whether `issuer` has signed it nobody here looks at."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(name_of(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made_at)
        .not_valid_after(made_at + timedelta(days=36500))
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def key_text(
    key: ec.EllipticCurvePrivateKey, encryption: KeySerializationEncryption = WITHOUT_PASSWORD
) -> str:
    """A key in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()


class PemsTestCase(SynchronousTestCase):
    """A folder."""

    def setUp(self) -> None:
        self.folder = Path(os.path.abspath(self.mktemp()))
        self.folder.mkdir()
        self.key = new_key()

    def write(self, **files: str) -> None:
        """Write files with these names."""
        for name, text in files.items():
            (self.folder / f"{name}.pem").write_text(text)


class FolderTests(PemsTestCase):
    """What is found."""

    def found(self) -> list[tuple[str, list[str]]]:
        """The subject of each certificate, and those of its chain."""
        return [
            (subject(one.certificate), [subject(above) for above in one.chain])
            for one in read_folder(str(self.folder))
        ]

    def test_four_files(self) -> None:
        """As certbot has them: a certificate comes twice, and the authority between, too."""
        leaf, between = (
            certify("leaf", "between", self.key, "a.example"),
            certify("between", "root", new_key()),
        )
        self.write(cert=leaf, chain=between, fullchain=leaf + between, privkey=key_text(self.key))
        (self.folder / "README").write_text("-----BEGIN nothing")
        self.assertEqual(self.found(), [("leaf", ["between"])])

    def test_circles(self) -> None:
        """Authorities that vouch for themselves, or for each other, come to an end."""
        leaf = certify("leaf", "one", self.key, "a.example")
        one, two = certify("one", "two", new_key()), certify("two", "one", new_key())
        self.write(a=key_text(self.key) + leaf, b=one, c=certify("two", "two", new_key()))
        self.assertEqual(self.found(), [("leaf", ["one"])])
        self.write(c=two)
        self.assertEqual(self.found(), [("leaf", ["one", "two"])])
        self.write(a=key_text(self.key) + certify("leaf", "leaf", self.key, "a.example"))
        self.assertEqual(self.found(), [("leaf", [])])

    def test_the_newest(self) -> None:
        """Of several for one key the one that was made last counts, whatever its file is called."""
        old, new = (
            certify(name, "x", self.key, "a.example", made_at=NOON + timedelta(days=days))
            for name, days in (("old", 0), ("new", 60))
        )
        self.write(a=new, b=old, key=key_text(self.key))
        self.assertEqual(self.found(), [("new", [])])

    def test_what_has_no_use(self) -> None:
        """A key without a certificate, a certificate without names, parameters of a curve."""
        parameters = (
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        )
        self.write(a=parameters + key_text(self.key), b=key_text(new_key()))
        self.assertEqual(self.found(), [])
        self.write(c=certify("leaf", "x", self.key))
        self.assertEqual(self.found(), [])
        self.write(c=certify("leaf", "x", self.key, "a.example"))
        self.assertEqual(self.found(), [("leaf", [])])

    def test_what_cannot_be_read(self) -> None:
        """The file is named, and what is in it."""
        good = certify("leaf", "x", self.key, "a.example")
        nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for text, words in {
            good[:-9]: "odd.pem is damaged",
            nothing: "the certificate in",
            key_text(self.key, BestAvailableEncryption(b"secret")): "the key in",
        }.items():
            self.write(odd=text)
            error = self.assertRaises(LocalError, read_folder, str(self.folder))
            self.assertIn(words, str(error))
            self.assertIn("odd.pem", str(error))


class NameTests(PemsTestCase):
    """Which certificate a client gets to see."""

    def test_by_name(self) -> None:
        """That of the name that it asks for; the first one, if there is none."""
        for file, names in {
            "a": ("a.example",),
            "b": ("B.example", "*.b.example"),
            "c": ("x.b.example",),
        }.items():
            key = new_key()
            self.write(**{file: key_text(key) + certify(file, "root", key, *names)})
        self.write(root=certify("root", "root", new_key()))
        check_endpoint(f"tls:{self.folder}:port=1")
        creator = load_from(f"tls-from:{self.folder}:tcp:1", "", lambda: 0.0)()
        for name, expected in {
            "a.example": "a",
            "b.EXAMPLE": "b",
            "y.b.example": "b",
            "x.b.example": "c",
            "b.b.b.example": "a",
            "other.example": "a",
            "": "a",
        }.items():
            client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
            if name:
                client.set_tlsext_host_name(name.encode())
            self.assertEqual(shown(creator.serverConnectionForTLS(None), client), expected, name)

    def test_how_it_is_written(self) -> None:
        """What Twisted's own parser takes is taken, and nothing else."""
        self.write(a=key_text(self.key) + certify("leaf", "x", self.key, "a.example"))
        for words in ("", ":1", ":port=1:interface=127.0.0.1:backlog=5", ":1:50:\\:\\:1"):
            check_endpoint(f"tls:{self.folder}{words}")
        for words in (":port=x", ":1:port=1", ":certificate=x", ":1:2:3:4"):
            self.assertRaises((TypeError, ValueError), check_endpoint, f"tls:{self.folder}{words}")


def shown(server: SSL.Connection, client: SSL.Connection) -> str:
    """Shake hands, and return the subject of what the server shows."""
    server.set_accept_state()
    client.set_connect_state()
    for here, there in 3 * [(client, server), (server, client)]:
        with contextlib.suppress(SSL.WantReadError):
            here.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            there.bio_write(here.bio_read(1 << 16))
    seen = client.get_peer_certificate(as_cryptography=True)
    assert seen is not None
    return subject(seen)


def subject(certificate: x509.Certificate) -> str:
    """Whose certificate it is."""
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)

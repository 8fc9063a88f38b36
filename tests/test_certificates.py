"""A server's own certificate: made once, renewed in time, always with the same key."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from chatbox.certificates import (
    RENEW_DAYS,
    VALID_DAYS,
    fingerprint,
    parse_fingerprint,
    refresh_self_signed,
    show_fingerprint,
)
from chatbox.errors import LocalError
from chatbox.files import stamp, write_whole
from tests.helpers.chat import NOON

DAY = 86_400


class SelfSignedTests(SynchronousTestCase):
    """The files in the state directory."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())

    def refresh(self, now: float = NOON) -> tuple[bytes, bytes]:
        """What is in the two files, after somebody has seen to them."""
        key, certificate = refresh_self_signed(self.folder, now)
        return Path(key).read_bytes(), Path(certificate).read_bytes()

    def test_made_for_the_owner_alone(self) -> None:
        """The folder and both files are made, and only their owner may read them."""
        self.refresh()
        modes = {
            name: stat.S_IMODE(os.stat(os.path.join(self.folder, name)).st_mode)
            for name in [".", *os.listdir(self.folder)]
        }
        self.assertEqual(modes, {".": 0o700, "tls-key.pem": 0o600, "tls-cert.pem": 0o600})

    def test_stays(self) -> None:
        """While it is good for long enough, nothing is written."""
        first = self.refresh()
        last_moment = NOON + (VALID_DAYS - 1 - RENEW_DAYS) * DAY - 1
        self.assertEqual(self.refresh(last_moment), first)

    def test_renewed_with_the_same_key(self) -> None:
        """Before it runs out there is another one, and the fingerprint is the same."""
        key, old = self.refresh()
        later = NOON + (VALID_DAYS - 1 - RENEW_DAYS) * DAY
        same_key, new = self.refresh(later)
        self.assertEqual(key, same_key)
        self.assertNotEqual(old, new)
        certificates = [x509.load_pem_x509_certificate(one) for one in (old, new)]
        self.assertEqual(*map(fingerprint, certificates))
        left = certificates[1].not_valid_after_utc.timestamp() - later
        self.assertEqual(left, (VALID_DAYS - 1) * DAY)

    def test_another_certificate_is_replaced(self) -> None:
        """A certificate that is damaged, or not for this key, is made anew."""
        self.refresh()
        os.remove(os.path.join(self.folder, "tls-key.pem"))
        key, certificate = self.refresh()
        for damaged in (b"", b"nonsense", certificate[:-50]):
            Path(self.folder, "tls-cert.pem").write_bytes(damaged)
            again, mended = self.refresh()
            self.assertEqual(again, key)
            self.assertEqual(
                fingerprint(x509.load_pem_x509_certificate(mended)),
                fingerprint(x509.load_pem_x509_certificate(certificate)),
            )

    def test_a_damaged_key_is_never_replaced(self) -> None:
        """Clients know the key, so a person must decide."""
        self.refresh()
        path = Path(self.folder, "tls-key.pem")
        path.write_bytes(b"nonsense")
        error = self.assertRaises(LocalError, self.refresh)
        self.assertIn("Put the right one back", str(error))
        self.assertEqual(path.read_bytes(), b"nonsense")

    def test_fingerprint_is_that_of_openssl(self) -> None:
        """What the documentation says how to compute is what we show."""
        _, path = refresh_self_signed(self.folder, NOON)
        found = subprocess.run(
            f"openssl x509 -in '{path}' -noout -pubkey | openssl pkey -pubin -outform der"
            " | sha256sum",
            shell=True,
            capture_output=True,
            check=True,
            encoding="ascii",
        )
        digits = fingerprint(x509.load_pem_x509_certificate(Path(path).read_bytes()))
        self.assertEqual(found.stdout.split()[0], digits)


class FingerprintTests(SynchronousTestCase):
    """Fingerprints as people write them."""

    def test_there_and_back(self) -> None:
        """What is shown can be read, in capitals and with colons too."""
        digits = "0123456789abcdef" * 4
        shown = show_fingerprint(digits)
        self.assertEqual(shown.split(), [digits[at : at + 4] for at in range(0, 64, 4)])
        for text in (digits, shown, shown.upper(), shown.replace(" ", ":"), f"SHA256:{digits}"):
            self.assertEqual(parse_fingerprint(text), digits)

    def test_nonsense(self) -> None:
        """Anything else is refused."""
        for text in ("", "0123", "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n."):
            self.assertRaises(ValueError, parse_fingerprint, text)


class FileTests(SynchronousTestCase):
    """Small files that are whole or as they were."""

    def test_replaced_whole(self) -> None:
        """The new contents are there, nothing else is left behind, and the stamp differs."""
        path = os.path.join(os.path.abspath(self.mktemp()), "deep", "file")
        self.assertIsNone(stamp(path))
        write_whole(path, b"one")
        first = stamp(path)
        write_whole(path, b"two")
        self.assertNotEqual(stamp(path), first)
        self.assertEqual(Path(path).read_bytes(), b"two")
        self.assertEqual(os.listdir(os.path.dirname(path)), ["file"])

    def test_not_replaced(self) -> None:
        """Who must be first is told that somebody else was."""
        path = self.mktemp()
        write_whole(path, b"one")
        self.assertRaises(FileExistsError, write_whole, path, b"two", replace=False)
        self.assertEqual(Path(path).read_bytes(), b"one")

    def test_failure_changes_nothing(self) -> None:
        """What cannot be written leaves the old file, and no draft."""
        folder = self.mktemp()
        path = os.path.join(folder, "file")
        write_whole(path, b"one")
        self.assertRaises(TypeError, write_whole, path, "no bytes")
        self.assertEqual(os.listdir(folder), ["file"])
        self.assertEqual(Path(path).read_bytes(), b"one")

    def test_a_link_stays_a_link(self) -> None:
        """What a symbolic link points to is changed, not the link."""
        folder = self.mktemp()
        os.mkdir(folder)
        target, link = (os.path.join(folder, name) for name in ("target", "link"))
        os.symlink("target", link)
        write_whole(link, b"one")
        self.assertTrue(os.path.islink(link))
        self.assertEqual(Path(target).read_bytes(), b"one")

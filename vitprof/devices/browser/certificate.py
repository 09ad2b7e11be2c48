"""A certificate of our own, for pages on another device: browsers give WebGPU and threads to secure pages only.

Its own file because it is the one place that needs `cryptography`. The certificate is kept: a browser that was told to
trust it once goes on doing so. It names the addresses that the server answers to, and nothing else is signed with it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from vitprof.errors import UnreachableError, VitprofError

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

# The longest that Apple's systems accept.
_DAYS = 397
_FRESH_DAYS = 7


def certificate(folder: Path, hosts: Sequence[str]) -> tuple[Path, Path, str]:
    """(certificate, key, SHA-256 fingerprint) for `hosts`, in `folder`; made anew where the old one does not serve.

    `UnreachableError` where the package `cryptography` is missing.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
    except ImportError as error:
        raise UnreachableError(
            "a certificate needs the package cryptography, which is not installed",
            remedy="pip install 'vitprof[browser]'",
            stage="serve",
        ) from error
    paths = folder / "certificate.pem", folder / "key.pem"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _serves(paths[0], paths[1], hosts):
            _write(paths[0], paths[1], hosts)
        read = x509.load_pem_x509_certificate(paths[0].read_bytes())
    except OSError as error:
        raise VitprofError(
            f"cannot keep a certificate in {folder}: {error.strerror}",
            remedy="set VITPROF_DATA_DIR to a writable folder",
            stage="serve",
        ) from error
    return *paths, read.fingerprint(hashes.SHA256()).hex(":").upper()


def _serves(path: Path, key: Path, hosts: Sequence[str]) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not path.is_file() or not key.is_file():
        return False
    try:
        read = x509.load_pem_x509_certificate(path.read_bytes())
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        # One that was ended between writing both has left halves that do not fit.
        if load_pem_private_key(key.read_bytes(), None).public_key() != read.public_key():
            return False
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    known = {str(one.value) for one in names}
    return set(hosts) <= known and read.not_valid_after_utc > datetime.now(UTC) + timedelta(days=_FRESH_DAYS)


def _write(path: Path, key_path: Path, hosts: Sequence[str]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vitprof devices serve")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS - 1))
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        # It can sign for no other name.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_path.unlink(missing_ok=True)
    # Never readable to others, not even for a moment.
    with os.fdopen(os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(private)
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _general_name(host: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

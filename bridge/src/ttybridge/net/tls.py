"""TLS of a port: its certificate, read again when the files change, and who clients are."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttybridge.model.ports import DialTls, Tls

log = logging.getLogger(__name__)


class CertificateError(Exception):
    """The files cannot be used; the message names key and file and says what to do."""


class Certificate:
    """Certificate, key and client CA of one port."""

    def __init__(self, settings: Tls, port_name: str) -> None:
        self._settings = settings
        self._port_name = port_name
        self._seen: list[tuple[int, int, int] | None] = []
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection; open connections keep theirs.

        Raises `CertificateError` if the files have never been usable. If they become unusable, the
        last usable ones stay in use.
        """
        seen = [_stamp(path) for path in self._paths().values()]
        if seen == self._seen and self._context:
            return self._context
        try:
            self._context = self._load()
        except CertificateError as error:
            if not self._context:
                raise
            if seen != self._seen:
                log.error("%s: the earlier certificate stays in use: %s", self._port_name, error)
        self._seen = seen
        return self._context

    def change(self, settings: Tls) -> None:
        """Use other files for new connections; where they are unusable, the last usable ones."""
        self._settings, self._seen = settings, []

    def _paths(self) -> dict[str, str]:
        settings = self._settings
        paths = {"certificate": settings.certificate, "key": settings.key}
        return {**paths, "client_ca": settings.client_ca} if settings.client_ca else paths

    def _load(self) -> ssl.SSLContext:
        for key, path in self._paths().items():
            _check_readable(key, path, "tls")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load_chain(context, "tls", self._settings.certificate, self._settings.key)
        if self._settings.client_ca:
            _trust(context, "tls.client_ca", self._settings.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def dialling(settings: DialTls) -> ssl.SSLContext:
    """Return the context for a connection that a port makes. Raises `CertificateError`.

    The files are read each time: a renewed one holds from the next connection on.
    """
    _check_readable("ca", settings.ca, "connect.tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, "connect.tls.ca", settings.ca)
    if settings.certificate and settings.key:
        _check_readable("certificate", settings.certificate, "connect.tls")
        _check_readable("key", settings.key, "connect.tls")
        _load_chain(context, "connect.tls", settings.certificate, settings.key)
    return context


def _load_chain(context: ssl.SSLContext, table: str, certificate: str, key: str) -> None:
    try:
        # With a callback a key that needs a password fails instead of asking the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise CertificateError(
            f"{table}: {certificate} and {key} are not a certificate "
            f"and its key without password, both PEM: {_reason(error)}"
        ) from error


def _trust(context: ssl.SSLContext, key: str, path: str) -> None:
    """Have a context trust the CAs in a file, and heed the revocation lists (CRLs) in it.

    The list of the CA that has signed a certificate must be there, then. Where every CA has one,
    the certificates of CAs in between are looked up too (RFC 5280, 6.3).
    """
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise CertificateError(
            f"{key}: {path} holds no PEM certificate, or one or a revocation list is damaged: "
            f"{_reason(error)}"
        ) from error
    loaded = context.cert_store_stats()
    if not loaded["x509"]:
        raise CertificateError(f"{key}: {path} holds no PEM certificate, only a revocation list")
    if loaded["crl"]:
        every = loaded["crl"] >= loaded["x509_ca"]
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN if every else ssl.VERIFY_CRL_CHECK_LEAF


# What OpenSSL says of revocation lists, and what that means here.
_OF_REVOCATION = {
    "CRL has expired": ("the revocation list (CRL) beside the CA has expired: put a new one there"),
    "unable to get certificate CRL": (
        "the file of the CA holds no revocation list (CRL) of the CA of this certificate: add it"
    ),
}


def handshake_words(error: Exception) -> str:
    """Return why a handshake has failed, in words for the one who looks after the port."""
    said = getattr(error, "verify_message", None)
    return _OF_REVOCATION.get(said or "", str(error) or type(error).__name__)


def names_in(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return who a verified certificate is for: its common name, then its alternative names.

    `certificate` is as `SSLSocket.getpeercert` returns it, None where the peer has sent none. One
    without any of these names is called by its whole subject, such as `O=lab, OU=net`.
    """
    if not certificate:
        return ()
    subject = [pair for group in certificate.get("subject", ()) for pair in group]
    common = [value for key, value in subject if key == "commonName"]
    others = [value for _, value in certificate.get("subjectAltName", ()) if isinstance(value, str)]
    whole = ", ".join(f"{key}={value}" for key, value in subject)
    return tuple(dict.fromkeys([*common, *others])) or (whole or "a certificate without a name",)


def _check_readable(key: str, path: str, table: str) -> None:
    try:
        Path(path).read_bytes()
    except PermissionError:
        raise CertificateError(
            f"{table}.{key}: {path}: permission denied: the daemon's user or group must be able to "
            "read it"
        ) from None
    except OSError as error:
        raise CertificateError(f"{table}.{key}: {path}: {error.strerror}") from None


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    # Not the time of modification: a copy may keep it, and new permissions do not change it.
    return status.st_ctime_ns, status.st_dev, status.st_ino


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)

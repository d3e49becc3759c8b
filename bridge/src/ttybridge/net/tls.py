"""The certificate of a port that speaks TLS, read again when its files change."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

from ttybridge.model.ports import Tls

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
            _check_readable(key, path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # With a callback a key that needs a password fails instead of asking the terminal.
            context.load_cert_chain(
                self._settings.certificate, self._settings.key, password=lambda: ""
            )
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise CertificateError(
                f"tls: {self._settings.certificate} and {self._settings.key} are not a certificate "
                f"and its key without password, both PEM: {_reason(error)}"
            ) from error
        if self._settings.client_ca:
            try:
                context.load_verify_locations(self._settings.client_ca)
            except OSError as error:
                raise CertificateError(
                    f"tls.client_ca: {self._settings.client_ca} holds no PEM certificate: "
                    f"{_reason(error)}"
                ) from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _check_readable(key: str, path: str) -> None:
    try:
        Path(path).read_bytes()
    except PermissionError:
        raise CertificateError(
            f"tls.{key}: {path}: permission denied: the daemon's user or group must be able to "
            "read it"
        ) from None
    except OSError as error:
        raise CertificateError(f"tls.{key}: {path}: {error.strerror}") from None


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    # Not the time of modification: a copy may keep it, and new permissions do not change it.
    return status.st_ctime_ns, status.st_dev, status.st_ino


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)

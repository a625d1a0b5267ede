"""
Certificates of the client, and authorities that it trusts.
"""

import os
import ssl

import attrs

from .errors import ConfigurationError


@attrs.frozen(kw_only=True)
class TLS:
    """
    Certificates beside the system's; TLS 1.2 is always the minimum.

    Attributes:
        ca_file: The PEM file of a private CA, trusted in addition.
        cert_file: The PEM file of a client certificate, with its key if
            *key_file* is `None`.
        key_file: The PEM file of the client certificate's key.
        key_password: The password of that key.
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    key_password: str | None = attrs.field(default=None, repr=False)

    def build_context(self) -> ssl.SSLContext:
        """
        Read the files and build the context; blocks, so not on a loop.

        Raises:
            ConfigurationError: If a file cannot be used.
        """
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.ca_file is not None:
                context.load_verify_locations(self.ca_file)
        except OSError as exc:
            raise _unusable("ca_file", self.ca_file, exc) from exc
        try:
            if self.cert_file is not None:
                # A callable, because OpenSSL asks on the terminal for a
                # password that it was not given.
                context.load_cert_chain(
                    self.cert_file,
                    self.key_file,
                    lambda: self.key_password or "",
                )
        except OSError as exc:
            raise _unusable("cert_file", self.cert_file, exc) from exc
        return context


def _unusable(name: str, file: object, exc: OSError) -> ConfigurationError:
    reason = exc.strerror or getattr(exc, "reason", None) or "unreadable"
    return ConfigurationError(fields={name: (f"{file}: {reason}",)})

"""Certificates for tests, made by the openssl program: an authority, and what it signs."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from ps.rpc.tls import Tls


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """The files of one certificate."""

    key: Path
    certificate: Path
    authority: Path

    @property
    def tls(self) -> Tls:
        files = self.key, self.certificate, self.authority
        key, certificate, authorities = (path.read_bytes() for path in files)
        return Tls(key=key, certificate=certificate, authorities=authorities)

    @property
    def environment(self) -> dict[str, str]:
        """Ray's variables for it."""
        return {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": str(self.certificate),
            "RAY_TLS_SERVER_KEY": str(self.key),
            "RAY_TLS_CA_CERT": str(self.authority),
        }


class Authority:
    """Signs certificates in a folder; skips the test where there is no openssl."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("makes its certificates with the openssl program, which is not here")
        self._folder = folder
        self.key, self.certificate = folder / "authority.key", folder / "authority.pem"
        files = ["-keyout", self.key, "-out", self.certificate]
        _openssl("req", "-x509", *_NEW_KEY, "-days", "2", "-subj", "/CN=authority", *files)

    def issue(self, name: str, names: str = "", *, usage: str = "serverAuth,clientAuth", days: int = 2) -> Issued:
        """A certificate for a subject with these alternative names, such as `IP:10.0.0.1`, none by default."""
        key, request, certificate, extensions = (self._folder / f"{name}.{e}" for e in ("key", "csr", "pem", "ext"))
        extensions.write_text(f"extendedKeyUsage={usage}\n" + (f"subjectAltName={names}\n" if names else ""))
        _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        signer = ["-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", str(days)]
        _openssl("x509", "-req", *signer, "-in", request, "-extfile", extensions, "-out", certificate)
        return Issued(key=key, certificate=certificate, authority=self.certificate)


_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)

"""A throwaway authority, and the certificates it signs, by the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.faults.needs import need

EXTENSIONS = "subjectAltName={names}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n"
NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, in PEM, and the authority's own certificate."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class Authority:
    """Signs certificates; its folder holds its own."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "authority.crt"

    def issue(self, folder: Path, name: str = "localhost", *, also: str = "DNS:localhost,IP:127.0.0.1") -> Certificate:
        """Sign a new certificate, for a server or a client, into a folder.

        Args:
            name: Its common name; PostgreSQL takes a client's for the name of the user.
            also: Its subject alternative names, as openssl writes them.
        """
        key, request, extensions, certificate = (folder / f"{name}{end}" for end in (".key", ".csr", ".ext", ".crt"))
        extensions.write_text(EXTENSIONS.format(names=also))
        _openssl("req", "-new", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        signer = ("-CA", str(self.certificate), "-CAkey", str(self.folder / "authority.key"), "-CAcreateserial")
        paths = ("-in", str(request), "-out", str(certificate), "-extfile", str(extensions))
        _openssl("x509", "-req", "-days", "2", *signer, *paths)
        key.chmod(0o600)
        copy = folder / "authority.crt"
        if not copy.exists():
            copy.write_bytes(self.certificate.read_bytes())
        return Certificate(certificate, key, copy)


def make_authority(folder: Path, name: str = "tests of api2db") -> Authority:
    """Make an authority of its own in a folder."""
    need("openssl")
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder)
    paths = ("-keyout", str(folder / "authority.key"), "-out", str(authority.certificate))
    _openssl("req", "-x509", "-days", "2", *NEW_KEY, "-subj", f"/CN={name}", *paths)
    return authority


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""The names of streams, buckets and subjects of a project in its cluster."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]")
_LONGEST: Final = 255  # characters of a stream's name, which is a folder of the servers


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one project.

    Attributes:
        project: The project's name in the cluster's address.
    """

    project: str

    @property
    def state(self) -> str:
        """The stream of all journals' state."""
        return f"api2db_{self.project}_state"

    @property
    def states(self) -> str:
        """The subjects of that stream."""
        return f"api2db.{self.project}.state.>"

    @property
    def leases(self) -> str:
        """The stream of the bucket of leases."""
        return f"KV_api2db_{self.project}_leases"

    def log(self, collector: str) -> str:
        """The stream of a collector's frames."""
        name = f"api2db_{self.project}_log_{encode(collector)}"
        if len(name) <= _LONGEST:
            return name
        digest = hashlib.blake2b(collector.encode(), digest_size=16).hexdigest()
        return f"{name[: _LONGEST - len(digest) - 1]}_{digest}"

    def log_subject(self, collector: str, kind: str) -> str:
        """The subject of its messages of one kind; ``>`` for all."""
        return f"api2db.{self.project}.log.{encode(collector)}.{kind}"

    def document(self, collector: str, name: str) -> str:
        """The subject of a document of a journal's state."""
        return f"api2db.{self.project}.state.{encode(collector)}.{name}"

    def lease(self, key: str) -> str:
        """The subject of a key of the bucket of leases; ``>`` for all."""
        return f"$KV.api2db_{self.project}_leases.{key}"

    def worker(self, worker: str) -> str:
        """The subject of a worker's session."""
        return self.lease(f"worker.{worker}")

    def claim(self, collector: str) -> str:
        """The subject of the claim to a collector."""
        return self.lease(f"collector.{encode(collector)}")

    def ask(self, collector: str) -> str:
        """The subject on which the owner of a journal answers."""
        return f"api2db.{self.project}.ask.{encode(collector)}"


def encode(name: str) -> str:
    """A collector's name as a token of a subject, which allows fewer characters."""
    return "".join(
        character if _PLAIN.fullmatch(character) else "".join(f"={byte:02X}" for byte in character.encode())
        for character in name
    )


def decode(token: str) -> str:
    """The collector's name in a token."""
    return unquote(token.replace("=", "%"))

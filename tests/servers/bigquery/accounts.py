"""Service accounts: their key files, and the exchange of a signed claim for a token."""

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import google.auth.credentials
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

AUDIENCE = "https://oauth2.googleapis.com/token"  # what the client signs, wherever its token_uri points
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = {"https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/cloud-platform"}
LONGEST_S = 3600


class RefusedError(Exception):
    """A claim that is not honoured."""


class KeyCredentials(google.auth.credentials.Credentials):
    """A key's credentials that ask only its own server: Google's as they are ask Google, in the background."""

    def __init__(self, key: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._key = key

    @property
    def service_account_email(self) -> str:
        """Whose key it is."""
        return str(self._key.service_account_email)

    def refresh(self, request: Any) -> None:
        """Exchange the key for a token."""
        self._key.refresh(request)
        self.token, self.expiry = self._key.token, self._key.expiry


@dataclass
class Accounts:
    """The accounts of one project.

    Attributes:
        lifetime_s: How long a token is good.
        demanded: Whether each call needs a token, as at Google; an emulator demands none.
    """

    project: str
    lifetime_s: float = LONGEST_S
    demanded: bool = False
    _keys: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)
    _tokens: dict[str, float] = field(default_factory=dict)

    def new_key_file(self, path: Path, token_uri: str, *, known: bool = True) -> Path:
        """Write the key file of a new account; ``known=False``: one that was deleted since."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        email = f"api2db-{secrets.token_hex(3)}@{self.project}.iam.gserviceaccount.com"
        if known:
            self._keys[email] = key.public_key()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        content = {
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": secrets.token_hex(20),
            "private_key": pem.decode(),
            "client_email": email,
            "client_id": "1",
            "token_uri": token_uri,
        }
        path.write_text(json.dumps(content))
        return path

    def exchange(self, form: bytes) -> dict[str, Any]:
        """Give a token for a claim that an account of ours has signed with RS256.

        Raises:
            RefusedError: It has not, or it claims something else.
        """
        fields = {name: values[0] for name, values in parse_qs(form.decode()).items()}
        if fields.get("grant_type") != GRANT:
            raise RefusedError("unsupported_grant_type")
        claims = self._verified(fields.get("assertion", ""))
        now = time.time()
        if claims.get("aud") != AUDIENCE or not SCOPES & set(str(claims.get("scope")).split()):
            raise RefusedError("invalid_scope")
        if not claims["iat"] - 60 <= now <= claims["exp"] <= claims["iat"] + LONGEST_S:
            raise RefusedError("invalid_grant")
        token = secrets.token_urlsafe(24)
        self._tokens[token] = now + self.lifetime_s
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(self.lifetime_s)}

    def admits(self, authorization: str | None) -> bool:
        """Whether a header holds a token that is still good, or none where none is demanded."""
        if authorization is None:
            return not self.demanded
        kind, _, token = authorization.partition(" ")
        return kind == "Bearer" and self._tokens.get(token, 0) > time.time()

    def forget_tokens(self) -> None:
        """None that was given is good any more."""
        self._tokens.clear()

    def _verified(self, assertion: str) -> dict[str, Any]:
        try:
            head, body, signature = assertion.split(".")
            header, claims = json.loads(_decoded(head)), json.loads(_decoded(body))
            if header["alg"] != "RS256":
                raise RefusedError("invalid_grant")
            key = self._keys[claims["iss"]]
            key.verify(_decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, KeyError, ValueError) as error:
            raise RefusedError("invalid_grant") from error
        return dict(claims)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

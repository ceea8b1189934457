"""Typed resources of REST APIs: HTTP, pagination, cursors, authentication, limits. A poll turns pages into frames."""

from api2db.errors import from_extra as _from_extra

with _from_extra("httpx2, jmespath or msgspec", "rest"):
    import httpx2  # noqa: F401 - reported here, once
    import jmespath  # noqa: F401
    import msgspec  # noqa: F401

from api2db.rest._api import RestApi
from api2db.rest._auth import ApiKey, Basic, BearerToken, OAuth2ClientCredentials
from api2db.rest._cursor import Cursor
from api2db.rest._jobs import Job
from api2db.rest._pagination import LastId, LinkHeader, NextToken, NextUrl, Offset, PageNumber
from api2db.rest._resource import Resource
from api2db.rest._secrets import SecretFile
from api2db.rest._session_token import LoginCall, SessionToken
from api2db.rest._signing import Signature, Signed, Unsigned

__all__ = [
    "ApiKey",
    "Basic",
    "BearerToken",
    "Cursor",
    "Job",
    "LastId",
    "LinkHeader",
    "LoginCall",
    "NextToken",
    "NextUrl",
    "OAuth2ClientCredentials",
    "Offset",
    "PageNumber",
    "Resource",
    "RestApi",
    "SecretFile",
    "SessionToken",
    "Signature",
    "Signed",
    "Unsigned",
]

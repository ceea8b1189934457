"""Lists: makes the resources of an API from the options that describe them, once they are checked."""

import dataclasses
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from api2db.errors import ConfigurationError
from api2db.rest._arguments import flag, headers_of, nearest, of_kind, one_of, optional_text, params_of, whole
from api2db.rest._auth import Auth
from api2db.rest._casts import cast_named
from api2db.rest._children import ForEach
from api2db.rest._cursor import Cursor
from api2db.rest._endpoint import Endpoint
from api2db.rest._formats import FORMATS
from api2db.rest._messages import Limits
from api2db.rest._pagination import NoPagination, checked
from api2db.rest._paths import compiled
from api2db.rest._resource import Resource
from api2db.rest._shaping import Shape

OPTIONS: Final = (
    "params",
    "headers",
    "records",
    "pagination",
    "cursor",
    "keys",
    "fields",
    "types",
    "flatten",
    "include",
    "format",
    "changes_only",
    "max_pages",
)
DEFAULTS: Final = {"keys": (), "flatten": False, "changes_only": False, "max_pages": 10_000}


@dataclass(frozen=True, repr=False)  # auth and headers may hold secrets
class Lists:
    """The lists of one API.

    Attributes:
        url: The API's URL.
        auth: Its authentication.
        headers: Sent with each call.
        limits: What bounds the calls.
    """

    url: str
    auth: Auth | httpx2.Auth
    headers: Mapping[str, str]
    limits: Limits

    def resource(
        self,
        method: str,
        path: str,
        path_parameters: Mapping[str, Any],
        options: dict[str, Any],
        but: Sequence[str] = (),
        **more: Any,
    ) -> Resource:
        """Return the resource of a list.

        Args:
            method: The method of the call.
            path: Appended to the API's URL.
            path_parameters: The values for the braces in the path.
            options: Those of ``OPTIONS``.
            but: The braces whose values come later.
            more: More attributes of the endpoint.

        Raises:
            ConfigurationError: An argument can't be used.
        """
        of_kind(path, str, "path", "text such as '/items'")
        if "://" in path.partition("?")[0] or "#" in path:
            raise ConfigurationError(f"path={path!r} must be a path below the url of RestApi, without a fragment")
        _check_path(path, path_parameters)
        fields = of_kind(options.get("fields") or {}, Mapping, "fields", "a dict")
        of_kind(options.get("include") or {}, Mapping, "include", "a dict")
        keys = _checked_keys(options["keys"], {**fields, **(options.get("include") or {})} if fields else {})
        if options["changes_only"] and not keys:
            raise ConfigurationError("changes_only needs keys, by which a row is compared with the last one")
        cursor, records = options.get("cursor"), optional_text(options.get("records"), "records")
        if options.get("format") == "xml" and records is None:
            raise ConfigurationError("format='xml' needs records=, the path of the elements that are the records")
        return Resource(
            Endpoint(
                method=method,
                url=f"{self.url.rstrip('/')}/{path.lstrip('/')}" if path else self.url,
                auth=self.auth,
                limits=self.limits,
                path={name: value for name, value in path_parameters.items() if name not in but},
                params=_checked_params(options.get("params") or {}, in_body=more.get("in_body", False)),
                headers={**self.headers, **headers_of(options.get("headers") or {}, "headers")},
                records=records,
                find=None if records is None else compiled(records, "records"),
                pagination=checked(options.get("pagination") or NoPagination()),
                cursor=_checked_cursor(cursor),
                keys=keys,
                shape=_shape(options),
                format=one_of(options.get("format", "json"), FORMATS, "format"),
                changes_only=flag(options["changes_only"], "changes_only"),
                max_pages=whole(options["max_pages"], "max_pages"),
                **more,
            )
        )

    def child(
        self,
        path: str,
        given: Mapping[str, Any],
        options: dict[str, Any],
        parent: Resource,
        include_parent: Mapping[str, str],
        at_once: int,
    ) -> Resource:
        """Return the resource of a list that is read once for each record of another one.

        Args:
            path: As in ``resource``.
            given: The values for the braces in the path that are the same for all records.
            options: As in ``resource``.
            parent: The other list.
            include_parent: Columns that are copied from its record.
            at_once: How many lists are read at the same time.

        Raises:
            ConfigurationError: An argument can't be used.
        """
        of_kind(parent, Resource, "for_each", "a resource, such as RestApi.get returns")
        if parent.job is not None:
            raise ConfigurationError("for_each is a list that a job makes; give a resource that is polled")
        if parent.for_each is not None:
            raise ConfigurationError("for_each is a resource that has for_each itself; the maximum is two levels")
        for name in ("cursor", "changes_only"):
            if options[name]:
                raise ConfigurationError(f"{name} can't be used with for_each; give it to the resource of for_each")
        names = [name for name in _names_in(path) if name not in given]
        if not names:
            raise ConfigurationError(f"path={path!r} needs a name in braces that for_each fills, such as {{id}}")
        columns = parent.endpoint.shape.fields
        for name in names:
            if columns and name not in columns:
                raise ConfigurationError(f"path={path!r} names {name!r}, which for_each lacks{nearest(name, columns)}")
        of_kind(include_parent, Mapping, "include_parent", "a dict")
        include = {name: compiled(found, f"include_parent[{name!r}]") for name, found in include_parent.items()}
        for_each = ForEach(
            parent.endpoint, {name: compiled(name, "path") for name in names}, include, whole(at_once, "at_once")
        )
        child = self.resource("GET", path, {**dict.fromkeys(names, "?"), **given}, options, but=names)
        return dataclasses.replace(child, for_each=for_each)


def _check_path(path: str, given: Mapping[str, Any]) -> None:
    """Each name in braces has an argument, and no argument is left over."""
    names = _names_in(path)
    for name in given:
        if name not in names:
            raise ConfigurationError(f"there is no argument {name!r}{nearest(name, [*names, *OPTIONS, 'json'])}")
    if missing := [name for name in names if name not in given]:
        raise ConfigurationError(f"path={path!r} needs the argument {missing[0]}=")
    for name, value in given.items():
        if not str(value) or any(part in {".", ".."} for part in str(value).split("/")):
            raise ConfigurationError(f"{name}={value!r} can't stand in the path {path!r}")


def _names_in(path: str) -> list[str]:
    try:
        found = [part[1:] for part in string.Formatter().parse(path) if part[1] is not None]
    except ValueError as error:
        raise ConfigurationError(f"path={path!r}: {error}") from None
    for name, format_, conversion in found:
        if not str(name).isidentifier() or format_ or conversion:
            raise ConfigurationError(f"path={path!r}: braces may hold a plain name, such as {{id}}, and nothing else")
    return [str(name) for name, _, _ in found]


def _checked_params(params: Any, *, in_body: bool) -> dict[str, Any]:
    """Those of a JSON body may hold objects."""
    return dict(of_kind(params, Mapping, "params", "a dict")) if in_body else params_of(params, "params")


def _checked_cursor(cursor: Any) -> Cursor | None:
    if cursor is None:
        return None
    found: Cursor = of_kind(cursor, Cursor, "cursor", "a Cursor")
    return found


def _checked_keys(keys: object, columns: Mapping[str, Any]) -> tuple[str, ...]:
    listed = (
        [keys] if isinstance(keys, str) else list(of_kind(keys, (list, tuple), "keys", "a column or a list of them"))
    )
    for key in listed:
        if not isinstance(key, str) or not key:
            raise ConfigurationError(f"keys hold {key!r}, which is no column's name")
        if columns and key not in columns:
            raise ConfigurationError(f"keys name {key!r}, which fields do not have{nearest(key, columns)}")
    return tuple(listed)


def _shape(options: Mapping[str, Any]) -> Shape:
    fields = of_kind(options.get("fields") or {}, Mapping, "fields", "a dict")
    types = of_kind(options.get("types") or {}, Mapping, "types", "a dict")
    include = of_kind(options.get("include") or {}, Mapping, "include", "a dict")
    for name in types:
        if fields and name not in fields and name not in include:
            raise ConfigurationError(f"types name {name!r}, which fields do not have{nearest(name, fields)}")
    return Shape(
        fields={name: compiled(path, f"fields[{name!r}]") for name, path in fields.items()},
        casts={name: cast_named(type_, f"types[{name!r}]") for name, type_ in types.items()},
        flatten=flag(options["flatten"], "flatten"),
        include=dict(include),
    )

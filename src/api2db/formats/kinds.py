"""The names of the four formats."""

from typing import Literal, get_args

from api2db.errors import ConfigurationError

Format = Literal["parquet", "json", "csv", "pickle"]

FORMATS: tuple[Format, ...] = get_args(Format)


def check_format(fmt: object) -> Format:
    """Check the name of a format.

    Raises:
        ConfigurationError: It is not one of the four.
    """
    if isinstance(fmt, str) and fmt in FORMATS:
        return fmt
    raise ConfigurationError(f"there is no format {fmt!r}; choose one of {', '.join(FORMATS)}")

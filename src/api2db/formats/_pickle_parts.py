"""The first half of reading a pickle: what it would make, as inert parts, with nothing made.

Where the standard library would import a class and call it, this notes the name, the arguments and the state. So a
pickle can't run, change or import anything here, and a name that is not allowed ends the reading.
"""

import pickle
from collections.abc import Callable, Container
from functools import lru_cache
from io import BytesIO
from typing import Any, ClassVar, NoReturn

GlobalName = tuple[str, str]


class ForbiddenNameError(Exception):
    """A pickle names something that is not allowed."""

    def __init__(self, name: GlobalName) -> None:
        super().__init__(".".join(name))


class Part:
    """Something that a pickle would make: a subclass stands for each name, an instance for each call of it.

    Attributes:
        made_by: The part that would be called, where that is no plain name.
    """

    name: GlobalName = ("", "")

    args: tuple[Any, ...]
    state: Any
    items: list[tuple[Any, Any]]
    made_by: "Part | None"

    def __new__(cls, *args: object) -> "Part":  # noqa: PYI034 - a pickle's call must not choose the class
        part = object.__new__(cls)
        part.args, part.state, part.items, part.made_by = args, None, [], None
        return part

    def __init__(self, *_: object) -> None:
        """Take what a call of the name was given."""

    def __call__(self, *args: object) -> "Part":
        part = Part(*args)
        part.made_by = self
        return part

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.items.append((key, value))


@lru_cache(maxsize=1024)
def _part_class(name: GlobalName) -> type[Part]:
    return type("Part", (Part,), {"name": name})


class _Parser(pickle._Unpickler):  # noqa: SLF001 - the one in C reserves memory for whatever a pickle claims to need
    """Reads every instruction of a pickle, and makes parts alone."""

    read: Callable[[int], bytes]
    append: Callable[[object], None]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)  # noqa: SLF001

    def __init__(self, content: bytes, allowed: Container[GlobalName]) -> None:
        super().__init__(BytesIO(content))
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> type[Part]:
        if (module, name) not in self.allowed:
            raise ForbiddenNameError((module, name))
        return _part_class((module, name))

    def get_extension(self, code: int) -> NoReturn:
        # The registry may hold the real thing behind a code.
        raise ForbiddenNameError(("copyreg", f"extension {code}"))

    def load_bytearray8(self) -> None:
        # The original reserves and clears as much memory as the pickle says, and only then looks whether it has it.
        content = self.read(int.from_bytes(self.read(8), "little"))
        self.append(bytearray(content))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def parse(content: bytes, allowed: Container[GlobalName]) -> Any:
    """Read a pickle as plain values and parts.

    Raises:
        ForbiddenNameError: It names something that is not allowed.
        Exception: It is malformed; of the many kinds that the standard library raises then.
    """
    return _Parser(content, allowed).load()

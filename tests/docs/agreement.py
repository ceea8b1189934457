"""Where a page and the code disagree, said in words."""

import ast
import inspect
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tests.docs.markdown import OptionRow

REQUIRED = "required"
FURTHER_PROGRAMS = ("&&", "||", "|", ";", ">", ">>", "2>", "&", "#")


def disagreement_of_command(line: str, command: Any) -> str | None:
    """What the program `command` would not understand in `line`; placeholders such as DIR pass as arguments."""
    for word in _words(line)[1:]:
        children = getattr(command, "commands", {})
        if word.startswith("-"):
            if word.partition("=")[0] not in _options_of(command):
                return f"{line!r}: {command.name} has no option {word}"
        elif children:
            alternatives = word.split("|")
            if unknown := set(alternatives) - set(children):
                return f"{line!r}: {command.name} has no command {' or '.join(sorted(unknown))}"
            command = children[alternatives[0]]
    return None


def _words(line: str) -> list[str]:
    words = shlex.split(line.replace("[", " ").replace("]", " "))
    ends = [index for index, word in enumerate(words) if word in FURTHER_PROGRAMS or word.startswith("#")]
    return words[: min(ends, default=len(words))]


def _options_of(command: Any) -> set[str]:
    return {"--help"}.union(*([*param.opts, *param.secondary_opts] for param in command.params))


def disagreement_of_option(row: OptionRow, classes: Mapping[str, type]) -> str | None:
    """Whether the class in the row's heading takes the option, and with that default."""
    described = class_of_heading(row.heading, classes)
    if described is None:
        return f"{row}: the heading names no class of {sorted(classes)}"
    parameter = inspect.signature(described).parameters.get(row.option)
    if parameter is None:
        return f"{row}: {described.__name__} takes no {row.option}"
    if _written(row.default) != _meant(parameter):
        return f"{row}: the page says {row.default}, the code says {_meant(parameter)!r}"
    return None


def class_of_heading(heading: str, classes: Mapping[str, type]) -> type | None:
    """The class that a heading such as "`Stream2Sql`: a database" names."""
    words = heading.replace("`", " ").replace(":", " ").replace("(", " ").split()
    return next((classes[word] for word in words if word in classes), None)


def options_left_out(described: type, rows: Sequence[OptionRow], classes: Mapping[str, type]) -> list[str]:
    """The options of a class that stand neither in its own table nor in that of a class it inherits from."""
    told = {row.option for row in rows if class_of_heading(row.heading, classes) in described.__mro__}
    return [name for name in inspect.signature(described).parameters if name not in told]


def _written(default: str) -> object:
    try:
        return ast.literal_eval(default)
    except (SyntaxError, ValueError):
        return default


def _meant(parameter: inspect.Parameter) -> object:
    return REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default

"""The numbers of an Arrow message are found where Arrow writes them, and nowhere in what is not such a message."""

from contextlib import suppress

import pyarrow as pa
import pytest

from api2db.frames import UnknownFormError, number_places

_BATCH = pa.record_batch({"n": [1, None, 3], "text": ["a", "bc", None], "nothing": pa.nulls(3), "yes": [True] * 3})
_MESSAGE = _BATCH.serialize().to_pybytes()


def _number(at: int) -> int:
    return int.from_bytes(_MESSAGE[at : at + 8], "little", signed=True)


def test_the_numbers_of_a_message_are_found() -> None:
    found = number_places(_MESSAGE)
    assert _number(found.rows) == 3
    assert _number(found.body_bytes) == len(_MESSAGE) - found.head_bytes
    nodes = [_number(found.nodes.at + 8 * at) for at in range(2 * found.nodes.length)]
    assert nodes == [3, 1, 3, 1, 3, 3, 3, 0]
    sizes = [_number(found.buffers.at + 16 * at + 8) for at in range(found.buffers.length)]
    assert sizes == [1, 24, 1, 16, 3, 0, 1]


@pytest.mark.parametrize("message", [b"", b"\xff" * 8, bytes(100), _BATCH.schema.serialize().to_pybytes()])
def test_what_is_no_message_of_a_batch_is_refused(message: bytes) -> None:
    with pytest.raises(UnknownFormError):
        number_places(message)


def test_a_batch_without_rows_is_refused() -> None:
    with pytest.raises(UnknownFormError):
        number_places(_BATCH[:0].serialize().to_pybytes())


def test_a_damaged_message_raises_no_other_error() -> None:
    head_bytes = number_places(_MESSAGE).head_bytes
    for at in range(head_bytes):
        for value in (0, 1, 127, 128, 255):
            with suppress(UnknownFormError):
                number_places(_MESSAGE[:at] + bytes([value]) + _MESSAGE[at + 1 :])
        with suppress(UnknownFormError):
            number_places(_MESSAGE[:at])

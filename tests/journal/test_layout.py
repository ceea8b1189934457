"""The bytes on disk, pinned: a change here is a new format, and needs a way to read the old one."""

import json
import stat
import zlib
from pathlib import Path

from api2db.journal._epochs import read_epochs
from api2db.journal._record import HEADER_BYTES, Header, pack, unpack
from api2db.journal._segment import pack_preamble, read_preamble
from tests.journal.conftest import Opener
from tests.journal.tools import STREAM, drain, frame, segments

HEADER = Header(2, 13, 3, 4, 5, (7 << 32) + 6, 1_700_000_000_000_000_001, 300, 0xDEADBEEF, 4096)
HEADER_HEX = (
    "a2444231"  # magic
    "0200"
    "0d00"  # kind, flags
    "03000000"
    "04000000"
    "05000000"  # stream_no, schema, rows
    "0600000007000000"  # sequence
    "01002a36fe9c9717"  # timestamp_ns
    "2c01000000000000"  # length of the payload
    "efbeadde"  # its checksum
    "0010000000000000"  # synced end
    "00000000"
)


def test_the_header_of_a_record_is_these_64_bytes() -> None:
    packed = pack(HEADER)
    assert HEADER_BYTES == len(packed) == 64
    assert packed[:60].hex() == HEADER_HEX
    assert packed[60:] == zlib.crc32(packed[:60]).to_bytes(4, "little")
    assert unpack(packed) == HEADER


def test_no_header_is_read_where_a_bit_differs() -> None:
    packed = pack(HEADER)
    for at in range(64):
        for bit in range(8):
            changed = bytearray(packed)
            changed[at] ^= 1 << bit
            assert unpack(bytes(changed)) is None
    assert unpack(packed[:63]) is None


def test_a_segment_begins_with_its_name_a_length_a_checksum_and_json(tmp_path: Path) -> None:
    body = json.dumps({"format": 2, "epoch": "e", "streams": []}).encode()
    packed = pack_preamble({"epoch": "e", "streams": []})
    assert (
        packed == b"api2db journal\n" + len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body
    )
    path = tmp_path / "0000000001.segment"
    path.write_bytes(packed)
    assert read_preamble(path) == ({"format": 2, "epoch": "e", "streams": []}, len(packed), False)


def test_a_segment_as_it_was_first_written_is_still_read(opened: Opener, tmp_path: Path) -> None:
    journal = opened()
    journal.attach(STREAM)
    journal.append([frame(1)], cursor={"n": 1})
    journal.close()
    content = segments(journal.folder)[0].read_bytes()
    at = content.index(b"\xa2DB1")
    kinds = []
    while at < len(content):
        header = unpack(content, at)
        assert header is not None
        kinds.append((header.kind, header.flags, header.stream_no, header.schema, header.rows))
        at += HEADER_BYTES + header.length
    assert kinds == [(1, 0, 0, 1, 0), (1, 0, 0, 1, 0), (2, 1 | 4, 0, 1, 1), (3, 2, 0, 0, 0)]


def test_an_opening_is_a_line_with_a_checksum(opened: Opener) -> None:
    journal = opened()
    text = f"1 {journal.core.epoch}".encode()
    assert (journal.folder / "epochs").read_bytes() == b"\n" + text + f" {zlib.crc32(text):08x}\n".encode()
    assert read_epochs(journal.folder) == {journal.core.epoch: 1}


def test_files_are_0600_and_folders_0700_whatever_the_umask(opened: Opener, tmp_path: Path) -> None:
    import os

    from api2db.journal._store import open_shared

    old = os.umask(0)
    try:
        handle = open_shared(tmp_path / "home", "flights")
        _, log = handle.journal.attach(STREAM)
        handle.journal.append([frame(1)])
        drain(log)
        while not (handle.journal.folder / "status.json").exists():
            pass
        found = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").rglob("*")}
        handle.release()
    finally:
        os.umask(old)
    names = {path.name for path in found}
    assert {"state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "owner.lock", "epochs", "status.json"} <= names
    assert {path: mode for path, mode in found.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}

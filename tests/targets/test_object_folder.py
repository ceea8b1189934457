"""A folder in an object store by itself, on the library's store of local files."""

from pathlib import Path

import pytest

from api2db.objects import Address, ObjectFolder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the library keeps the objects. As at Google, a deletion of what is not there is an error here."""
    place = tmp_path / "objects"
    place.mkdir()
    return place


def folder_at(place: Path, home: Path) -> ObjectFolder:
    return ObjectFolder(Address(f"file://{place}"), home)


def test_a_file_that_is_gone_does_not_keep_the_others_from_being_deleted(place: Path, tmp_path: Path) -> None:
    folder = folder_at(place, tmp_path)
    names = [f"{number:02}.csv" for number in range(40)]
    for name in names:
        folder.put_new(name, b"a\n1\n")
    (place / names[3]).unlink()
    folder.delete(names)
    assert folder.names() == []
    folder.delete(names[:1])

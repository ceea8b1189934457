"""A folder in an object store by itself, on the library's store of local files."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from api2db.disk.atomic import make_folders
from api2db.objects import Address, ObjectFolder, _folder


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


def test_stores_of_one_project_that_start_together_agree_on_its_number(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [place / name for name in ("first", "second")]
    both_found_none = Barrier(len(places), timeout=30)

    def together(path: Path) -> None:
        make_folders(path)
        both_found_none.wait()

    for there in places:
        there.mkdir()
    with monkeypatch.context() as patch, ThreadPoolExecutor(len(places)) as pool:
        patch.setattr(_folder, "make_folders", together)
        list(pool.map(lambda there: folder_at(there, tmp_path).claim(), places))
    for there in places:
        folder_at(there, tmp_path).claim()
    assert [path.name for path in (tmp_path / "STORE" / ".objects").iterdir()] == ["project"]

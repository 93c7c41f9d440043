"""The private directories of the master, for the shared state and the metrics."""

import fcntl
import os
from pathlib import Path

import pytest

from esxiproxy.workers.master.state_directory import StateDirectory


@pytest.fixture
def folder(tmp_path):
    folder = StateDirectory({"RUNTIME_DIRECTORY": f"{tmp_path}:/other"})
    yield folder
    folder.remove()
    assert [path for path in tmp_path.iterdir() if path.name.startswith("esxiproxy-")] == []


def test_the_directory_is_the_same_while_it_exists(folder):
    database = folder.database
    assert Path(database).parent.is_dir() and folder.database == database


def test_a_removed_directory_is_created_again(folder):
    before = Path(folder.database).parent
    before.rmdir()
    after = Path(folder.database).parent
    assert after.is_dir() and after != before


def test_a_directory_made_in_its_place_is_neither_used_nor_removed(folder, tmp_path):
    mine = Path(folder.database).parent
    mine.rename(tmp_path / "elsewhere")
    mine.mkdir()
    assert Path(folder.database).parent != mine and mine.is_dir()
    mine.rmdir()


def test_the_state_directory_is_locked_against_cleaners(folder):
    descriptor = os.open(Path(folder.database).parent, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_the_directory_is_private_and_exists_as_long_as_its_parent(tmp_path):
    directory = StateDirectory({"RUNTIME_DIRECTORY": str(tmp_path)})
    folder = Path(directory.metrics)
    (folder / "counter.db").write_text("")
    assert directory.metrics == str(folder) and (folder / "counter.db").exists()
    assert folder.stat().st_mode & 0o777 == 0o700 and folder.parent == Path(directory.database).parent
    directory.remove()
    assert not folder.exists()
    assert list(Path(directory.metrics).iterdir()) == []
    directory.remove()

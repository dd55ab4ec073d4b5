"""Cache entries: every way in which one can be broken ends in a rebuilt entry, told once, and never in wrong voxels.

Mutations seen to fail: the hash not compared.
"""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sonogym.anatomy import cache
from sonogym.anatomy.cache import kept, read_tensors, write_tensors
from sonogym.errors import InvalidInputError, MissingFileError

VOXELS = torch.arange(4096, dtype=torch.int16).reshape(16, 16, 16)


class Maker:
    """Counts how often the entry had to be made."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return VOXELS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "patients" / "one.safetensors"


@pytest.fixture
def make():
    return Maker()


def load(path, make):
    return kept(
        path,
        read=lambda tensors, text: tensors[text["name"]],
        make=make,
        pack=lambda v: ({"v": v}, {"name": "v", "note": "one"}),
    )


def test_an_entry_is_made_once_and_read_afterwards(path, make, capsys):
    assert torch.equal(load(path, make), VOXELS)
    assert torch.equal(load(path, make), VOXELS)
    assert make.count == 1
    assert capsys.readouterr().err == ""


def truncate(path):
    os.truncate(path, path.stat().st_size - 1000)


def empty(path):
    path.write_bytes(b"")


def flip_voxel(path):
    content = bytearray(path.read_bytes())
    content[-2000] ^= 0x10
    path.write_bytes(content)


def flip_header(path):
    content = bytearray(path.read_bytes())
    content[20] ^= 0x10
    path.write_bytes(content)


def change_text(path):
    """A whole file whose text was altered: the tensors alone do not tell."""
    content = path.read_bytes()
    assert content.count(b'"note":"one"') == 1
    path.write_bytes(content.replace(b'"note":"one"', b'"note":"two"'))


def of_before(path):
    """What a version without hashes stored."""
    save_file({"v": VOXELS + 1}, path, metadata={"name": "v"})


def of_another_version(path):
    write_tensors(path, {"voxels": VOXELS + 1}, {"name": "v"})


BROKEN = [truncate, empty, flip_voxel, flip_header, change_text, of_before, of_another_version]


@pytest.mark.parametrize("spoil", BROKEN)
def test_a_broken_entry_is_told_once_and_made_again(path, make, capsys, spoil):
    load(path, make)
    spoil(path)
    assert torch.equal(load(path, make), VOXELS)
    assert make.count == 2
    told = capsys.readouterr().err
    assert told.count("a cache entry is made again") == 1
    assert torch.equal(load(path, make), VOXELS)
    assert make.count == 2
    assert capsys.readouterr().err == ""


def test_a_broken_patient_file_is_refused_by_name(path, make):
    load(path, make)
    flip_voxel(path)
    with pytest.raises(InvalidInputError, match=r"one\.safetensors is damaged: its content does not have the hash"):
        read_tensors(path)
    of_before(path)
    with pytest.raises(InvalidInputError, match=r"holds no hash.*make it again"):
        read_tensors(path)
    with pytest.raises(MissingFileError):
        read_tensors(path.with_name("two"))


KILLED_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from sonogym.anatomy.cache import write_atomically
def write(path):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), write)
"""


def test_a_process_killed_half_way_leaves_no_entry_and_what_it_leaves_goes_in_time(path, make, capsys):
    run = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, str(path)], check=False)
    assert run.returncode == -signal.SIGKILL
    left = list(path.parent.iterdir())
    assert len(left) == 1
    assert not path.exists()
    assert torch.equal(load(path, make), VOXELS)
    assert capsys.readouterr().err == ""
    assert left[0].exists()  # its writer may still be alive
    os.utime(left[0], (0, 0))
    path.unlink()
    load(path, make)
    assert list(path.parent.iterdir()) == [path]


def test_no_device_and_no_folder_is_replaced_by_a_file(tmp_path):
    for place, kind in ((Path("/dev/null"), "a device"), (tmp_path, "a folder")):
        for write in (cache.require_writable, lambda path: cache.write_atomically(path, lambda _: None)):
            with pytest.raises(InvalidInputError, match=f"it is {kind}"):
                write(place)


def test_a_full_disk_is_an_error_and_leaves_nothing(path, make, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "save_file", full)
    with pytest.raises(InvalidInputError, match=r"cannot write.*No space left on device.*nothing was left behind"):
        load(path, make)
    assert list(path.parent.iterdir()) == []


def test_a_write_that_the_system_cuts_short_is_an_error_and_keeps_the_old_entry(path, make):
    load(path, make)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(InvalidInputError, match="cannot write"):
            write_tensors(path, {"v": VOXELS + 1}, {"name": "v"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]

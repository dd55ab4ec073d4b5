import errno
from dataclasses import dataclass

import pytest
import torch
from scipy import stats

import sonogym
from sonogym.anatomy import cache
from sonogym.config import override
from sonogym.errors import InvalidInputError, MissingFileError, UnknownNameError, require_between, unknown_name
from sonogym.random import Streams


@dataclass(frozen=True)
class Inner:
    depth: float = 0.1


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    name: str = "a"


def streams(envs, seed=3, episode=0, step=0, first=0):
    index = torch.arange(first, first + envs)
    return Streams(seed, index, torch.full((envs,), episode), torch.full((envs,), step))


def test_dotted_override_reaches_inside_and_refuses_unknown_and_wrong_type():
    assert override(Outer(), {"inner.depth": 1}).inner.depth == 1.0
    with pytest.raises(UnknownNameError, match=r"Did you mean 'depth'|Known: depth"):
        override(Outer(), {"inner.dept": 1.0})
    with pytest.raises(InvalidInputError, match="takes a float"):
        override(Outer(), {"inner.depth": "deep"})


def test_unknown_name_names_the_closest():
    assert "Did you mean 'C5-2v'?" in str(unknown_name("probe", "c5-2", ["C5-2v", "L11-5v"]))


def test_nan_is_out_of_range():
    with pytest.raises(InvalidInputError, match="millimetres"):
        require_between("depth", float("nan"), 0.0, 0.3, "m", "millimetres?")


def test_stream_of_an_environment_is_the_same_whatever_the_number_of_environments():
    alone = streams(1, first=5).uniform("x", 0, 1, 3)
    assert torch.equal(streams(8).uniform("x", 0, 1, 3)[5:6], alone)


def test_streams_differ_by_seed_episode_step_and_name():
    base = streams(4).uniform("x", 0, 1)
    others = [streams(4, seed=4), streams(4, episode=1), streams(4, step=1)]
    assert all(not torch.equal(base, other.uniform("x", 0, 1)) for other in others)
    assert not torch.equal(base, streams(4).uniform("y", 0, 1))


def test_draws_follow_their_laws():
    many = streams(20000)
    assert stats.kstest(many.uniform("u", -1, 3)[:, 0].numpy(), stats.uniform(-1, 4).cdf).pvalue > 1e-3
    assert stats.kstest(many.normal("n", 2, 3)[:, 0].numpy(), stats.norm(2, 3).cdf).pvalue > 1e-3
    counts = torch.bincount(many.integers("i", 7), minlength=7)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_cache_round_trip_and_damaged_file(tmp_path):
    path = tmp_path / "deep" / "x.safetensors"
    cache.write_tensors(path, {"a": torch.arange(3)}, {"name": "n"})
    tensors, text = cache.read_tensors(path)
    assert tensors["a"].tolist() == [0, 1, 2]
    assert text == {"name": "n"}
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InvalidInputError, match="is not a whole file"):
        cache.read_tensors(path)
    with pytest.raises(MissingFileError):
        cache.read_tensors(tmp_path / "none")


def test_full_disk_leaves_the_old_file_and_nothing_half_written(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")

    def full(temporary):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InvalidInputError, match="No space left"):
        cache.write_atomically(path, full)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert path.read_text() == "old"


def test_unknown_attribute_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such"):
        _ = sonogym.no_such

import errno
import os
import subprocess
import sys
import time

import pytest
from edge_harness import cache
from edge_harness.errors import CacheError
from edge_harness.processes import wait_until


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_where_the_variable_says(folder):
    assert cache.cache_dir() == folder
    assert folder.is_dir()


def test_a_file_in_the_caches_place_is_explained(folder, monkeypatch):
    folder.parent.joinpath("file").write_text("")
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(folder.parent / "file"))
    with pytest.raises(CacheError, match="EDGE_HARNESS_CACHE"):
        cache.cache_dir()


@pytest.mark.parametrize("name", ["x" * 300, "loop/cache"])
def test_a_folder_that_cannot_be_made_is_explained(folder, monkeypatch, name):
    (folder.parent / "loop").symlink_to("loop")
    monkeypatch.setenv("EDGE_HARNESS_CACHE", str(folder.parent / name))
    with pytest.raises(CacheError, match="cannot be made"):
        cache.cache_dir()


def test_a_full_disk_names_the_folder_and_the_cure(folder):
    with pytest.raises(CacheError, match="no space left") as error, cache.explained(folder):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "image gc" in error.value.next_step


def test_a_staged_folder_appears_whole_or_not_at_all(folder):
    final = folder / "images" / "one"

    def die_half_way():
        with cache.staged(final) as staging:
            (staging / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die_half_way()
    assert list(final.parent.iterdir()) == []
    with cache.staged(final) as staging:
        (staging / "whole").write_text("x")
    assert [p.name for p in final.parent.iterdir()] == ["one"]


def test_read_only_folders_are_removed_too(folder):
    inner = folder / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    inner.chmod(0o500)
    cache.remove_tree(folder / "a")
    assert not (folder / "a").exists()


def test_what_is_built_is_built_once(folder):
    final = folder / "images" / "one"
    made = []

    def build(stage):
        made.append(stage)
        (stage / "part").write_text("x")
        return {"what": "a part"}

    first, second = cache.built(final, build), cache.built(final, build)
    assert len(made) == 1
    assert first == second
    assert first.path == final
    assert first.content["what"] == "a part"
    assert cache.found(final) == first
    cache.discard(final)
    assert cache.found(final) is None


def test_what_is_built_anew_stays_until_then(folder):
    final = folder / "images" / "one"
    cache.built(final, lambda _stage: {"number": 1})

    def fail(_stage):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.built(final, fail, renew=True)
    assert cache.found(final).content["number"] == 1
    assert cache.built(final, lambda _stage: {"number": 2}, renew=True).content["number"] == 2


#: Builds the entry named on its command line: says when it is half way, and waits there until
#: the file it is told appears.
_BUILDER = """
import pathlib, sys, time
from edge_harness import cache

def build(stage):
    (stage / "half").write_text("x")
    pathlib.Path(sys.argv[2]).touch()
    end = time.monotonic() + 60
    while not pathlib.Path(sys.argv[3]).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return {"who": sys.argv[4]}

print(cache.built(pathlib.Path(sys.argv[1]), build).content["who"])
"""


def _builder(final, tmp_path, who):
    argv = [sys.executable, "-c", _BUILDER, str(final)]
    argv += [str(tmp_path / f"half-{who}"), str(tmp_path / "go"), who]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_a_build_that_is_killed_half_way_leaves_nothing_and_the_next_one_builds(folder, tmp_path):
    final = folder / "images" / "one"
    child = _builder(final, tmp_path, "first")
    try:
        assert wait_until((tmp_path / "half-first").exists, deadline_s=60)
    finally:
        child.kill()
        child.communicate()
    assert cache.found(final) is None
    assert not final.exists()
    assert cache.built(final, lambda _stage: {"who": "second"}).content["who"] == "second"


def test_of_two_processes_one_builds_and_the_other_waits_for_it(folder, tmp_path):
    final = folder / "images" / "one"
    children = [_builder(final, tmp_path, "first")]
    try:
        assert wait_until((tmp_path / "half-first").exists, deadline_s=60)
        children.append(_builder(final, tmp_path, "second"))
        time.sleep(0.3)
        assert not (tmp_path / "half-second").exists()
        (tmp_path / "go").touch()
        said = [child.communicate(timeout=60)[0].strip() for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert said == ["first", "first"]
    assert [path.name for path in final.parent.iterdir()] == ["one"]


def test_a_full_disk_leaves_nothing_that_looks_finished(folder):
    final = folder / "images" / "one"

    def build(stage):
        (stage / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CacheError, match="no space left"):
        cache.built(final, build)
    assert list(final.parent.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda final: (final / "part").write_text("shorter"),
        lambda final: (final / "part").unlink(),
        lambda final: cache.remove_tree(final / "tree"),
        lambda final: (final / "lock.json").write_text(""),
        lambda final: (final / "lock.json").write_text('["of another kind"]'),
        lambda final: (final / "lock.json").unlink(),
        lambda final: (cache.remove_tree(final), final.mkdir()),
    ],
)
def test_what_was_damaged_is_built_anew(folder, damage):
    final = folder / "images" / "one"

    def build(stage):
        (stage / "part").write_text("all that there is")
        (stage / "tree").mkdir()
        return {}

    cache.built(final, build)
    damage(final)
    assert cache.found(final) is None
    cache.built(final, build)
    assert (final / "part").read_text() == "all that there is"
    assert (final / "tree").is_dir()


def test_an_entry_without_list_of_its_parts_is_taken_as_it_is(folder):
    final = folder / "images" / "one"
    final.mkdir(parents=True)
    (final / "lock.json").write_text('{"who": "an older version"}')
    assert cache.found(final).content == {"who": "an older version"}


def test_using_an_entry_is_noted(folder):
    final = folder / "images" / "one"
    cache.built(final, lambda _stage: {})
    os.utime(final / "lock.json", (1, 1))
    cache.built(final, lambda _stage: {})
    assert (final / "lock.json").stat().st_mtime > 1


def test_a_lock_that_is_never_let_go_of_is_named(folder, monkeypatch):
    monkeypatch.setattr(cache, "LOCK_TIMEOUT_S", 0.05)
    with (
        cache.locked("images-one"),
        pytest.raises(CacheError, match="another process has held the lock"),
        cache.locked("images-one"),
    ):
        pass


@pytest.mark.parametrize(
    "said",
    [
        "dpkg-deb: error: cannot write: No space left on device",
        "E: You don't have enough free space in /x/",
    ],
)
def test_a_program_that_found_the_disk_full_is_understood(folder, said):
    with pytest.raises(CacheError, match="no space left"):
        cache.refuse_full(said, folder)
    cache.refuse_full("some other trouble", folder)

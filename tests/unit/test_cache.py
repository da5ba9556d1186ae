import errno

import pytest
from edge_harness import cache
from edge_harness.errors import CacheError


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

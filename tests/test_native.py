"""Compiled kernels: kept ones serve where there is no compiler, damaged ones are built again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from msvae import native_library

SOURCE = "int answer(void) { return 42; }\n"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "answer.c"
    file.write_text(SOURCE)
    if native_library(file) is None:
        pytest.skip("no C compiler is here")
    return file


def test_a_kept_library_serves_without_a_compiler(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    kept = native_library(source)
    assert kept is not None
    assert kept.answer() == 42
    source.write_text(SOURCE.replace("42", "43"))
    with caplog.at_level(logging.WARNING):
        assert native_library(source) is None
    assert "no C compiler is installed" in caplog.text
    assert "apt install gcc" in caplog.text
    with caplog.at_level(logging.WARNING):
        assert native_library(source) is None
    assert caplog.text.count("no C kernels") == 1  # said once


def test_what_a_compiler_says_is_said_in_one_line(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    source.write_text("int answer(void) { return; }}\n")
    with caplog.at_level(logging.WARNING):
        assert native_library(source) is None
    assert "error:" in caplog.text
    assert len(caplog.text.strip().splitlines()) == 1


@pytest.mark.parametrize("damage", [b"", b"\x7fELF", b"no library at all" * 100])
def test_a_damaged_library_is_built_again(source: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (library,) = (source.parent / "cache" / "msvae").iterdir()
    copy = library.read_bytes()
    library.unlink()  # a new file: this process has the old one loaded
    library.write_bytes(damage + copy[len(damage) : 2000])
    with caplog.at_level(logging.WARNING):
        built = native_library(source)
    assert built is not None
    assert built.answer() == 42
    assert "is damaged: it is built again" in caplog.text

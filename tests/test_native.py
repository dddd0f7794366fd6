"""Compiled kernels: kept ones serve where there is no compiler, damaged ones are built again."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from msvae import native_library
from msvae.plugins import prebuilt

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]

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


def test_a_library_that_the_package_brings_serves_without_a_compiler(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the highest level that the processor has; one of another source is not taken, nor one that is damaged."""
    levels = list(prebuilt.build(source, [], [], source.parent / prebuilt.FOLDER))
    assert len(levels) == 3
    taken = prebuilt.found(source, [], [])
    if taken is None:
        pytest.skip("this processor is of no level that is built for")
    assert prebuilt.found(source, [], ["X=1"]) is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")  # a home that cannot be written to
    library = native_library(source)
    assert library is not None
    assert Path(library._name) == taken
    monkeypatch.setenv("MSVAE_NO_COMPILER", "1")
    library = native_library(source)
    assert library is not None
    assert library.answer() == 42
    for path in prebuilt.build(source, [], ["X=2"], source.parent / prebuilt.FOLDER):
        path.write_bytes(b"no library")
    assert native_library(source, definitions=["X=2"]) is None
    source.write_text(SOURCE.replace("42", "43"))
    assert prebuilt.found(source, [], []) is None


def test_the_wheel_builds_every_kernel_that_is_loaded() -> None:
    """What pyproject.toml lists is what plugins ask for: sources, headers and definitions."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    listed = {kernel["source"]: kernel for kernel in named["hooks"]["custom"]["kernels"]}
    assert set(listed) == {str(p.relative_to(ROOT)) for p in (ROOT / "plugins").rglob("*.c")}
    from msvae_voxelfe.kernels import compiled

    own = listed["plugins/msvae_voxelfe/kernels/source/kernels.c"]
    assert own["headers"] == list(compiled.HEADERS)
    assert own["definitions"] == [[f"REAL={kind}"] for kind in compiled.CTYPES.values()]
    from msvae_networks import layers

    assert listed["plugins/msvae_networks/normalise.c"]["definitions"] == [[f"HALF={k}"] for k in layers.HALF.values()]


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

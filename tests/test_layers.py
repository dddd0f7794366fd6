"""The road that data takes: imports run one way, plugins see only what msvae exports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rooms import CORE, PLUGINS, ROOT, imported, room, room_of

ORDER = [
    "errors", "seeds", "structures", "files", "metrics", "plugins", "study", "vae", "sampling", "part", "dispatch",
    "progress", "run", "stages", "report", "archive", "campaigns", "serve", "start", "cli", "testing", "__main__",
]  # fmt: skip


@pytest.mark.parametrize("path", CORE, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_run_down_the_road_and_never_reach_a_plugin(path: Path) -> None:
    if path == ROOT / "msvae" / "__init__.py":
        return
    here = room_of(path)
    for name in imported(path):
        assert not name.startswith("msvae_"), f"{path} imports the plugin {name}"
        if name.startswith("msvae."):
            assert ORDER.index(room(name)) <= ORDER.index(here), f"{path} imports {name}, which stands further down"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_plugin_imports_only_what_msvae_exports_and_no_other_plugin(path: Path) -> None:
    import msvae

    own = path.relative_to(ROOT / "plugins").parts[0]
    for name in imported(path):
        if name.split(".")[0] == "msvae":
            assert name.removeprefix("msvae.") in msvae.__all__, f"{path} imports {name}"
        assert not name.startswith("msvae_") or name.split(".")[0] == own, f"{path} imports {name}"


def test_only_one_file_imports_pluggy() -> None:
    users = [p.name for p in CORE + PLUGINS if any(n.split(".")[0] == "pluggy" for n in imported(p))]
    assert users == ["registration.py"]


PUBLIC = [  # names that users import: some are added, none is taken away
    "VAE", "Architecture", "Array", "DataError", "Dataset", "Grid", "MsvaeError", "PluginError", "Positions",
    "Properties", "Quantity", "Run", "RunError", "Settings", "Solver", "SpacingError", "Specification",
    "Structures", "Study", "StudyError", "TargetError", "__version__", "differentiable", "hook", "load_solver",
    "native_library", "read_structures", "Ascending", "Count", "Distinct", "Finite", "Fraction", "Natural",
    "Length", "NonNegative", "Positive", "Rule", "Seconds", "Voxels", "Share", "Unit",
]  # fmt: skip


def test_no_public_name_is_taken_away() -> None:
    import msvae

    assert set(PUBLIC) <= set(msvae.__all__)


def test_everything_exported_exists() -> None:
    import msvae

    assert all(getattr(msvae, name) is not None for name in msvae.__all__)


@pytest.mark.parametrize("arguments", [["--help"], ["plugin", "--help"]])
def test_the_command_line_does_not_pay_for_torch(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['msvae', *{arguments!r}]\nfrom msvae.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, stdin=subprocess.DEVNULL)


def test_labelling_does_not_pay_for_torch(tmp_path: Path) -> None:
    """Every rank of a job would: seconds each, and more from a file system that all of them read."""
    (tmp_path / "study.toml").write_text(
        'campaign = "label"\n[dataset]\nname = "simulated"\ncount = 3\nshape = [6, 6]\n'
        '[solver]\nname = "conductivity"\n'
        "phases = [{ conductivity = 1.0 }, { conductivity = 2.0 }]\n"
    )
    code = (
        "import sys; sys.argv = ['msvae', 'run', 'study.toml', '--output', 'run']; sys.modules['torch'] = None\n"
        "from msvae.cli import main; main()"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, stdin=subprocess.DEVNULL, cwd=tmp_path
    )
    assert (tmp_path / "run" / "report.html").exists()

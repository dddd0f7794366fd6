"""Build hook: with MSVAE_PREBUILT=1 the wheel carries its C kernels, compiled for processors of several levels.

Users without a compiler then have the fast path too; the others compile for their own processor on first use.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Kernels(BuildHookInterface[Any]):
    """Compiles what [tool.hatch.build.targets.wheel.hooks.custom] names as kernels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not os.environ.get("MSVAE_PREBUILT") or version == "editable":
            return
        root = Path(self.root)
        specification = importlib.util.spec_from_file_location("prebuilt", root / "msvae" / "plugins" / "prebuilt.py")
        assert specification is not None
        assert specification.loader is not None
        prebuilt = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(prebuilt)
        self.made = tempfile.TemporaryDirectory()
        for kernel in self.config["kernels"]:
            source = root / kernel["source"]
            headers = [source.with_name(name) for name in kernel.get("headers", [])]
            place = source.relative_to(root / "plugins").parent / prebuilt.FOLDER
            for definitions in kernel.get("definitions", [[]]):
                for path in prebuilt.build(source, headers, definitions, Path(self.made.name, place)):
                    build_data["force_include"][str(path)] = str(place / path.name)
        glibc = platform.libc_ver()[1].replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{glibc}_{platform.machine()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "made"):
            self.made.cleanup()

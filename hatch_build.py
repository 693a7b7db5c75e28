"""Builds the loops in C with the package; without a C compiler the package is one of Python alone, and says so."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("bale", "compressors", "kernels", "native")


class NativeLoops(BuildHookInterface[Any]):
    """Adds the extension to wheels and to the checkout of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as one of this platform for the stable ABI."""
        if self.target_name != "wheel":  # sources are built where they are installed
            return
        spec = importlib.util.spec_from_file_location("native_build", Path(self.root) / FOLDER / "build.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        try:
            made: Path = module.build()
        except Exception as error:  # no compiler, or one that fails: numba compiles the same loops when they are used
            self.app.display_warning(f"bale is built without its loops in C, and starts more slowly: {error}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["artifacts"].append(str(FOLDER / made.name))

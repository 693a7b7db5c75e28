"""The house: who imports whom, what is imported when, and that what is public is explained."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import bale
from bale.compressors.base import Codec
from tests.making import weights, write

ROOT = Path(bale.__file__).parent
GROUND = {"bale.errors", "bale.spec", "bale.metrics", "bale.notes"}
MAY_IMPORT = {
    "errors": set(),
    "spec": set(),
    "metrics": {"bale.spec"},
    "notes": set(),
    "compressors": {"bale.compressors"},
    "io": {"bale.io"},
    "planning": {"bale.planning", "bale.compressors"},
    "report": {"bale.report"},
    "engine": {"bale.engine", "bale.compressors", "bale.io", "bale.planning", "bale.report"},
    "torch": {"bale.torch", "bale.engine", "bale.compressors", "bale.io.folders.record"},
    "transformers": {"bale.transformers", "bale.torch", "bale.engine"},
    "vllm": {"bale.torch"},
    "models": {"bale.models", "bale.torch", "bale.engine.reading", "bale.io"},
    "export": {"bale.export", "bale.engine", "bale.io", "bale.planning.patterns", "bale.compressors"},
    "testing": {"bale.testing", "bale.compressors"},
    "api": {"bale.api", "bale.engine", "bale.io", "bale.planning", "bale.report"},
    "cli": {
        "bale.cli",
        "bale.api",
        "bale.compressors.registry",
        "bale.compressors.compiling",
        "bale.planning.budget",
        "bale.planning.presets",
        "bale.report",
        "bale.engine",
        "bale.export",
        "bale.models",
        "bale.io.names",
        "bale.io.folders.by_products",
    },
    "__init__": {"bale.api", "bale"},
    "__main__": {"bale.cli"},
}
"""Rooms of the package, and what each may import; the ground floor is open to all."""

FLOORS = {
    "compressors": (
        {"settings", "compiling", "parallel", "pages"},
        {"kernels"},
        {"floats", "measured"},
        {"importance"},
        {"base", "entropy"},
        {"plugins"},
        {"registry", "transform_chain", "contexts", "rate_controlled", "candidate"},
        {"grammar", "serializers", "lossless", "quantizers", "lowrank", "trellis"},
        {"conditional", "residual", "candidates"},
        {"pipeline"},
        {"chunks"},
    ),
    "io": (
        {"faults", "checkpoint", "names", "stand_ins", "weight_names"},
        {"storage", "headers", "reports"},
        {"safetensors"},
        {"sources", "archive", "statistics"},
        {"folders"},
    ),
    "planning": (
        {"rounds", "roles", "quantities", "lines", "presets"},
        {"patterns", "saved"},
        {"budget", "renames"},
        {"allocate"},
        {"kinds", "rule"},
        {"recipe_file"},
        {"recipe"},
        {"decide"},
    ),
    "report": ({"figures"}, {"tensors", "gates", "advice"}, {"files", "sums"}, {"model"}),
    "engine": (
        {"run", "rows", "sha256"},
        {"coding"},
        {"reading"},
        {"inputs", "resolved"},
        {"writing", "restore", "extract", "compare", "entropy_floor"},
        {"estimate", "verify"},
        {"folder", "guards", "advise"},
        {"reports"},
        {"targets"},
    ),
    "api": (
        {"inputs", "results"},
        {"compressing", "decompressing", "planning", "advising", "verifying", "comparing", "inspecting", "opening"},
    ),
}
"""Rooms within a room, from the ground upwards: each imports from floors below it, and from itself."""

ONLY_IN = {
    "typer": {"cli"},
    "rich": {"cli"},
    "torch": {"torch", "models", "transformers", "vllm"},
    "transformers": {"models", "transformers"},
    "vllm": {"vllm"},
    "safetensors": {"io"},
    "pytest": {"testing"},
}
OF_TORCH = {"torch", "transformers", "vllm"}  # rooms that nothing else imports
NEVER_AT_ONCE = {"scipy", "numba", "torch", "transformers", "rich"}  # imported within functions


@cache
def modules() -> dict[str, ast.Module]:
    return {
        path.relative_to(ROOT).with_suffix("").as_posix(): ast.parse(path.read_text())
        for path in sorted(ROOT.rglob("*.py"))
    }


@cache
def imports(tree: ast.Module, top_only: bool = False) -> tuple[str, ...]:
    """Dotted names of what is imported; with `top_only`, of what is imported as soon as the module is."""
    found: list[str] = []
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


COMPILED = {
    "compressors/entropy/rans",
    "compressors/conditional/cells",
    "compressors/conditional/delta",
    "compressors/contexts/axes",
    "compressors/contexts/columns",
    "compressors/contexts/fields",
    "compressors/lossless/max_effort",
    "compressors/contexts/tokens",
    *(
        f"compressors/trellis/{module}"
        for module in ("context_classes", "rate_control", "scaling", "viterbi", "stream", "tables")
    ),
    *(f"compressors/kernels/{path.stem}" for path in (ROOT / "compressors" / "kernels").glob("*.py")),
    "compressors/kernels/native/__init__",
    "compressors/kernels/native/build",
}
"""Modules that need compiled code; all others import them when they use them."""


def below(name: str, allowed: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


def test_the_walk_sees_the_package() -> None:
    assert {
        "api/compressing",
        "io/archive/archive",
        "engine/writing/archive",
        "compressors/quantizers/linear",
        "cli/app",
    } <= modules().keys()
    assert {name.split("/")[0] for name in modules()} == MAY_IMPORT.keys()


def test_imports_run_down_only() -> None:
    for module, tree in modules().items():
        allowed = MAY_IMPORT[module.split("/")[0]] | GROUND
        for name in imports(tree):
            assert not below(name, {"bale"}) or below(name, allowed), f"{module} imports {name}"


def test_compressors_and_io_never_import_each_other() -> None:
    both = set()
    for module, tree in modules().items():
        seen = {part for part in ("compressors", "io") for name in imports(tree) if below(name, {f"bale.{part}"})}
        if len(seen) == 2:
            both.add(module.split("/")[0])
    assert both == {"engine", "export"}  # which writes values as the bytes of other formats


def test_the_program_never_imports_its_tests() -> None:
    """Those for authors of codecs need pytest, which no user has."""
    for module, tree in modules().items():
        if not module.startswith("testing/"):
            assert not [name for name in imports(tree) if below(name, {"bale.testing"})], module


def inner(name: str) -> str:
    """The room within a room that a module lies in, by its path or its dotted name."""
    return (*name.replace("/", ".").removeprefix("bale.").split("."), "")[1]


@pytest.mark.parametrize("room", FLOORS)
def test_imports_within_a_room_run_down_only(room: str) -> None:
    floors = {each: floor for floor, rooms in enumerate(FLOORS[room]) for each in rooms}
    for module, tree in modules().items():
        own = inner(module)
        for name in imports(tree) if module.startswith(f"{room}/") and own != "__init__" else ():
            if below(name, {f"bale.{room}"}) and inner(name) != own:
                assert floors[inner(name)] < floors[own], f"{module} imports {name}"


@pytest.mark.parametrize("room", FLOORS)
def test_each_room_has_a_floor(room: str) -> None:
    rooms = {inner(module) for module in modules() if module.startswith(f"{room}/")} - {"__init__"}
    assert sorted(each for floor in FLOORS[room] for each in floor) == sorted(rooms)


def test_what_codes_and_what_decides_knows_no_files() -> None:
    """So both can be tried without any, and work on whatever holds the bytes."""
    for module, tree in modules().items():
        if module.startswith(("engine/coding/", "engine/advise/decide", "planning/", "report/")):
            assert not [name for name in imports(tree) if below(name, {"bale.io"})], module


def test_only_storage_knows_descriptors() -> None:
    """All others read from a `ByteSource` and write to a `ByteSink`, so that a checkpoint need not be a file."""
    for module, tree in modules().items():
        if module.startswith(("engine/", "io/")) and not module.startswith("io/storage/"):
            calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
            assert not calls & {"os.pread", "os.preadv", "os.pwrite", "os.read", "os.write", "os.fstat"}, module


def test_the_engine_names_no_codec() -> None:
    """What codecs can do, they say: by their kind (`Quantizer` and others), or by a capability (`RateControlled`)."""
    kinds = {"bale.compressors.base", "bale.compressors.rate_controlled"}
    for module, tree in modules().items():
        for name in imports(tree) if module.startswith("engine/") else ():
            folder, _, last = name.rpartition(".")
            found = getattr(import_module(folder), last, None) if below(name, {"bale.compressors"}) else None
            if isinstance(found, type) and issubclass(found, Codec):
                assert folder in kinds, f"{module} imports {name}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_libraries_that_one_part_has(library: str) -> None:
    users = {
        module.split("/")[0] for module, tree in modules().items() if any(below(n, {library}) for n in imports(tree))
    }
    assert users <= ONLY_IN[library]
    assert users


def test_what_is_dear_is_not_imported_before_it_is_used() -> None:
    assert modules().keys() >= COMPILED
    for module, tree in modules().items():
        if module.partition("/")[0] not in OF_TORCH and module not in COMPILED:
            assert [name for name in imports(tree, top_only=True) if below(name, NEVER_AT_ONCE)] == [], module


def test_compiled_code_stands_in_one_folder() -> None:
    users = {module for module, tree in modules().items() if any(below(name, {"numba"}) for name in imports(tree))}
    assert users == {"compressors/kernels/__init__", "compressors/kernels/cache"}


def test_only_the_command_line_prints_exits_or_reads_the_environment() -> None:
    others = {module: tree for module, tree in modules().items() if not module.startswith("cli/")}
    for module, node in ((module, node) for module, tree in others.items() for node in ast.walk(tree)):
        if isinstance(node, ast.Call):
            text = ast.unparse(node.func)
            assert text not in ("print", "exit", "sys.exit", "os._exit", "os.getenv"), module
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("os.environ", "sys.argv", "sys.stdout", "sys.stderr"), module


def loaded(code: str, *arguments: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after running this."""
    script = f"import sys, json, io, contextlib\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


RUN = "from bale.cli.app import run\nwith contextlib.redirect_stdout(io.StringIO()): assert run(sys.argv[1:]) == 0"


def test_import_bale_is_light() -> None:
    assert not loaded("import bale") & {"numpy", "torch", "scipy", "numba", "safetensors", "typer", "zstandard"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["compress", "--help"], ["stats", "--help"], ["eval", "--help"]]
)
def test_help_is_light(arguments: list[str]) -> None:
    heavy = {"numpy", "torch", "transformers", "scipy", "numba", "safetensors", "zstandard", "ml_dtypes"}
    assert not loaded(RUN, *arguments) & heavy


def test_looking_is_light(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": weights(64, 64)})
    bale.compress(source, f"{source}.bale", pipeline="int4")
    for arguments in (["inspect", str(source)], ["inspect", f"{source}.bale"], ["codecs", "int"]):
        assert not loaded(RUN, *arguments) & {"torch", "scipy", "numba"}


def test_the_default_way_is_light(tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": weights(64, 64)})
    for arguments in (["compress", str(source)], ["verify", f"{source}.bale"], ["decompress", f"{source}.bale", "-f"]):
        assert not loaded(RUN, *arguments) & {"torch", "scipy", "numba"}


def test_what_is_public_is_explained() -> None:
    assert sorted(bale.__all__) == [
        "advise",
        "budget",
        "compare",
        "compress",
        "decompress",
        "inspect",
        "open",
        "plan",
        "verify",
    ]
    for name in bale.__all__:
        function = getattr(bale, name)
        text = inspect.getdoc(function)
        assert text
        assert text.splitlines()[0].endswith(".")
        for parameter in list(inspect.signature(function).parameters)[2:]:
            assert name != "compress" or f"{parameter} :" in text, f"{name} does not explain {parameter}"
    assert set(bale.__all__) <= set(dir(bale))
    assert bale.__version__
    with pytest.raises(AttributeError, match="nothing"):
        bale.nothing  # noqa: B018


def test_the_wheel_holds_what_is_read_at_run_time() -> None:
    assert {path.name for path in ROOT.iterdir() if path.suffix in (".json", ".typed")} == {
        "report.schema.json",
        "py.typed",
    }

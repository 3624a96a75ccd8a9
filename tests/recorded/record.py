"""Record the numbers and texts that eight tiny runs give, or compare what they give now with the record.

    python tests/recorded/record.py [--only vanilla ...]            compare; exit code 1 if something differs
    python tests/recorded/record.py --write                          replace the record

Record anew only when a number was wrong, and say why in the commit. The runs train for twelve steps, are
interrupted in the middle and resumed. To give the same bits on every x86 processor, the script starts itself again
with the libraries held to instructions that all of them have. `--tolerance` is for other versions of libraries:
floats may then differ by so much, relative to the larger of 1 and the number, and digests of weights are left out.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("record.json")
SAME_BITS = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "OMP_NUM_THREADS": "1",
    "TEXTVAE_RECORDING": "1",
}
SMALL = (
    "model.latent=3",
    "model.embedding=6",
    "train.batch_size=16",
    "train.max_steps=12",
    "train.log_every=4",
    "train.precision=fp32",
    "data.train=table.tsv",
    "data.label=topic",
    "data.split.valid=0.2",
    "data.split.test=0.2",
)
RECURRENT = ("model.encoder.hidden=6", "model.decoder.hidden=6")
HYBRID = (
    "data.tokenizer.name=character",
    "data.max_length=40",
    "model.encoder.maps=[6,6]",
    "model.decoder.first_maps=8",
    "model.decoder.maps=[6,6]",
    "model.decoder.top.hidden=6",
)
# The method and further settings of each run.
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "vanilla": ("vanilla", ("train.optimizer.lr=0.01",)),
    "language-model": ("language-model", ("model.latent=0",)),
    "mu-forcing": ("mu-forcing", ()),
    "semi-implicit": ("semi-implicit", ("model.posterior.components=3", "model.posterior.hidden=6")),
    "vmf": ("vmf", ()),
    "iaf-vamp": ("iaf", ("model.posterior.hidden=6", "model.prior={name='vamp', components=3}")),
    "hybrid": ("hybrid", ()),
    "aggressive": ("aggressive", ("train.update.inner=3",)),
}
IW = ("--iw-samples", "5", "--iw-sentences", "10")
# Of each run, beside `compare`.
COMMANDS = {
    "evaluate": ("evaluate", "RUN", "--json", *IW),
    "evaluate-all": ("evaluate", "RUN", "--all", "--json", *IW, "--samples", "20", "--times", "2"),
    "diagnose": ("diagnose", "RUN", "--json"),
    "sample": ("sample", "RUN", "-n", "5", "--seed", "3", "--decode", "sample", "--json"),
    "interpolate": ("interpolate", "RUN", "the food was good", "my phone is so slow", "--steps", "4", "--json"),
    "reconstruct": ("reconstruct", "RUN", "the food was good", "--samples", "2", "--json"),
}
COMPARED = ("vanilla", "mu-forcing", "semi-implicit", "aggressive")
# What the clock and the machine decide.
UNSTEADY = {"tokens_per_second", "relative_speed", "device", "threads", "cores", "seconds"}
UNSTEADY |= {"textvae", "python", "torch", "lightning_fabric", "numpy", "system"}


def table(path: Path) -> None:
    """Write 240 different labelled sentences of three to seven words."""
    chosen = random.Random(0)
    words = (
        ("the", "a", "this", "my"),
        ("food", "coffee", "phone", "screen"),
        ("is", "was"),
        ("", "very", "so", "not"),
        ("good", "bad", "slow", "cold"),
        ("", "here", "today ."),
    )
    rows: dict[str, str] = {}
    while len(rows) < 240:
        picked = [chosen.choice(options) for options in words]
        rows[" ".join(filter(None, picked))] = "food" if picked[1] in ("food", "coffee") else "device"
    path.write_text("text\ttopic\n" + "".join(f"{text}\t{topic}\n" for text, topic in rows.items()))


def steady(value: Any) -> Any:
    """A JSON document without what the clock and the machine decide."""
    if isinstance(value, dict):
        return {name: steady(one) for name, one in value.items() if name not in UNSTEADY}
    return [steady(one) for one in value] if isinstance(value, list) else value


def command(*arguments: str) -> Any:
    """Run a command and return its JSON, or what it says where it refuses."""
    from typer.testing import CliRunner

    from textvae.cli import app

    done = CliRunner().invoke(app, arguments)
    if done.exit_code:
        return {"exit_code": done.exit_code, "stderr": done.stderr, "exception": repr(done.exception)}
    return steady(json.loads(done.stdout))


def trained(name: str) -> None:
    """Train a run, interrupt it after its first eight steps, and resume it."""
    import textvae

    method, assignments = RUNS[name]
    sizes = HYBRID if method == "hybrid" else RECURRENT
    settings = textvae.load_settings(None, method, (*SMALL, *sizes, *assignments))

    def interrupted(step: int, *_: Any) -> None:
        if step == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with contextlib.suppress(KeyboardInterrupt):
        textvae.train(settings, name, interrupted)
        raise AssertionError(f"{name} was not interrupted")
    textvae.resume(name)


def weights(run: str) -> dict[str, str]:
    """The digest of every tensor of a run's last weights."""
    from safetensors.numpy import load_file

    tensors = load_file(Path(run) / "model.safetensors")
    return {key: hashlib.sha256(tensor.tobytes()).hexdigest()[:16] for key, tensor in sorted(tensors.items())}


def libraries() -> str:
    """What decides on the last bits: torch's build and the processor."""
    import torch

    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    return f"{torch.__version__}, {hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def recorded(names: list[str]) -> dict[str, Any]:
    """What the runs give: weights, the documents of the commands, and a comparison."""
    found: dict[str, Any] = {"libraries": libraries()}
    table(Path("table.tsv"))
    for name in names:
        trained(name)
        found[name] = {"weights": weights(name)}
        for title, arguments in COMMANDS.items():
            found[name][title] = command(*(name if part == "RUN" else part for part in arguments))
    compared = [name for name in COMPARED if name in names]
    if len(compared) > 1:
        found["compare"] = command("compare", *compared, "--json", *IW)
    return found


def differences(old: Any, new: Any, tolerance: float, place: str = "") -> Iterator[str]:
    """Where two documents differ, a line for each place."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            if name not in old or name not in new:
                yield f"{place}/{name}: {'is new' if name in new else 'is gone'}"
            elif not (tolerance and name in ("weights", "libraries")):
                yield from differences(old[name], new[name], tolerance, f"{place}/{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, tolerance, f"{place}/{number}")
    elif isinstance(old, float) and isinstance(new, float) and abs(old - new) <= tolerance * max(1.0, abs(old)):
        return
    elif type(old) is not type(new) or old != new:
        yield f"{place}: {old!r} was recorded, now {new!r}"


def main() -> int:
    """Record or compare; 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the record")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="these runs alone")
    parser.add_argument("--tolerance", type=float, default=0.0, help="how much floats may differ; 0: not at all")
    asked = parser.parse_args()
    if "TEXTVAE_RECORDING" not in os.environ:
        return subprocess.call([sys.executable, *sys.argv], env={**os.environ, **SAME_BITS})

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["TEXTVAE_CACHE"] = f"{folder}/cache"
        new = recorded(asked.only)
    if asked.write:
        RECORD.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n")
        return 0
    old = json.loads(RECORD.read_text())
    kept = {name: value for name, value in old.items() if name in new}
    found = list(differences(kept, new, asked.tolerance))
    print("\n".join(found) if found else "nothing differs")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

import ast
import graphlib
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import textvae

SOURCE = Path(textvae.__file__).parent

# Rooms in the order in which data flows: a module imports only from its own room or from rooms before it. `textvae`
# itself gives the version and imports everything else when it is first used.
ROOMS = (
    "errors",
    "files",
    "extensions",
    "progress",
    "settings",
    "text",
    "parts",
    "model",
    "metrics",
    "inference",
    "objective",
    "run",
    "training",
    "generate",
    "evaluation",
    "report",
    "comparison",
    "quickstart",
    "cli",
    "__main__",
)

# May be imported nowhere at the head of a module: they cost a second or more, or are needed by few.
HEAVY = {"matplotlib", "sklearn", "pyarrow", "scipy", "transformers", "datasets", "sacrebleu", "jieba", "zuko"}
# Would run code from a file.
CODE_FROM_FILES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it; a package's own is its folder's."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str, tree: ast.AST) -> set[str]:
    """The names below `textvae` that a module imports, anywhere in it, `import` inside functions too."""
    here = ["textvae", *filter(None, name.split("."))]
    package = here if MODULES[name].name == "__init__.py" else here[:-1]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return {target.removeprefix("textvae.") for target in found if target.startswith("textvae.")}


def test_the_reader_of_imports_sees_every_form():
    tree = ast.parse(
        "import textvae.a\nfrom textvae import b\nfrom textvae.c import d\ndef f():\n    from . import e"
    )
    assert imported("text.store", tree) == {"a", "b", "c.d", "text.e"}
    assert "text.e" in imported("text", tree) and "e" in imported("model", tree)


def test_every_module_has_its_room():
    assert {name.split(".")[0] for name in MODULES} - {""} == set(ROOMS)


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {""}))
def test_a_module_imports_only_from_its_room_or_those_before(name):
    own = name.split(".")[0]
    for target in imported(name, ast.parse(MODULES[name].read_text())):
        room = target.split(".")[0]
        if room in ROOMS:
            assert ROOMS.index(room) <= ROOMS.index(own), f"textvae.{name} imports textvae.{target}"
        else:
            assert room == "__version__" or hasattr(textvae, room), f"textvae.{name} imports textvae.{target}"


ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "recipes").glob("*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_scripts_import_what_there_is(path):
    """Few of them run in a test, so a name that has moved would be missed."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "textvae":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


def module_of(target: str) -> str:
    """The module that an imported name is, or is defined in; an empty text for the package itself."""
    while target not in MODULES:
        target = target.rpartition(".")[0]
    return target


def cycle(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one import cycle; none if there is none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_a_cycle_of_imports_is_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def test_no_modules_import_each_other_in_a_circle():
    """Nor may imports within functions, or those that types alone need."""
    imports = {}
    for name, path in MODULES.items():
        targets = {module_of(target) for target in imported(name, ast.parse(path.read_text()))}
        imports[name] = targets - {name, ""}
    del imports[""]  # which imports what it offers when that is first used
    assert cycle(imports) == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_loads_nothing_heavy_at_its_head(name):
    head = [
        node for node in ast.parse(MODULES[name].read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name for node in head if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in head if isinstance(node, ast.ImportFrom) and node.module}
    assert not {full.split(".")[0] for full in names} & HEAVY


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_runs_code_from_files(name):
    """No pickles, no torch.load, no numpy.load that would take objects, no eval."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & CODE_FROM_FILES
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.split(".")[0] not in CODE_FROM_FILES
            assert node.module != "torch" or not {alias.name for alias in node.names} & {"load", "save"}
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant) and node.value.value is False
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"torch.load", "torch.save", "eval", "exec", "compile", "yaml.load"}, called


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_and_functions_are_of_a_size_to_be_read(name):
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 70, (
                f"{name}.{node.name} has {node.end_lineno - node.lineno} lines"
            )


PROBE = """
import importlib, json, os, random, sys, threading, warnings
warnings.simplefilter("error")
import numpy as np, torch, pydantic, tokenizers
warnings.simplefilter("default")

def state():
    return {
        "threads": torch.get_num_threads(),
        "interop": torch.get_num_interop_threads(),
        "dtype": str(torch.get_default_dtype()),
        "device": str(torch.get_default_device()),
        "rng": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),
        "random": repr(random.getstate()),
        "grad": torch.is_grad_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "folder": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if not name.startswith("KMP_")},
    }

before = state()
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
after = state()
assert threading.active_count() == 1, threading.enumerate()
for name in before:
    assert before[name] == after[name], (name, before[name], after[name])
"""


def test_importing_everything_has_no_effects_and_prints_nothing():
    names = sorted(f"textvae.{name}".rstrip(".") for name in MODULES if name != "__main__")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(names)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["textvae", "textvae.cli"])
def test_these_load_no_torch(name):
    """`textvae --help` answers at once."""
    probe = f"import sys, {name}; sys.exit(', '.join({{'torch', 'numpy', 'matplotlib'}} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", textvae.__all__)
def test_what_the_package_offers_can_be_had_again_and_again(name):
    """A module of the same name, once it is imported, would take the function's place."""
    for _ in range(2):
        assert callable(getattr(textvae, name))


def test_what_the_package_does_not_offer_is_refused_as_usual():
    with pytest.raises(AttributeError, match="module 'textvae' has no attribute 'trian'"):
        _ = textvae.trian


# May know which kinds of parts there are: the rules between parts, and the defaults that tables are merged by.
KNOWS_KINDS = {"objective.combinations", "settings.documents"}
# Capabilities of parts that are types: an object that has them is asked for no kind.
CAPABILITIES = {"Drawn", "Restated", "Slow"}


def kinds_asked(tree: ast.AST, names: set[str]) -> list[str]:
    """The places where a module compares with the name of a kind, or asks an object for the class of a part."""
    parts = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("textvae.parts")
        for alias in node.names
    } - CAPABILITIES
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"isinstance", "issubclass"}:
            found += [ast.unparse(node) for name in ast.walk(node.args[1]) if getattr(name, "id", None) in parts]
        if isinstance(node, ast.Compare | ast.Match):
            constants = {value.value for value in ast.walk(node) if isinstance(value, ast.Constant)}
            found += [ast.unparse(node)] if constants & names else []
    return found


def test_the_reader_of_kinds_sees_them():
    tree = ast.parse(
        "from textvae.parts.priors import StandardNormal as S, Prior\n"
        "isinstance(p, (S, Prior)); p.name == 'vmf'; p.name in ('gaussian', q); isinstance(p, int); p.name == 'o'"
    )
    assert len(kinds_asked(tree, {"vmf", "gaussian"})) == 4


@pytest.mark.parametrize("name", sorted(name for name in MODULES if not name.startswith("parts")))
def test_no_module_but_the_parts_asks_a_part_for_its_kind(name):
    from textvae.parts.decoders import DECODERS
    from textvae.parts.encoders import ENCODERS
    from textvae.parts.posteriors import POSTERIORS
    from textvae.parts.priors import PRIORS

    names = {*POSTERIORS, *PRIORS, *ENCODERS, *DECODERS, "feed-forward", "amortized", "refined"}
    if name not in KNOWS_KINDS:
        assert kinds_asked(ast.parse(MODULES[name].read_text()), names) == []

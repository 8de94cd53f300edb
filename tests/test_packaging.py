"""What `pip install .` takes: every package and every file that the code reads."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import pkgutil
import re
import tomllib
from pathlib import Path

from restoration.degradations.blind import CORRUPTIONS
from restoration.degradations.camera import EXPOSURES
from restoration.degradations.linear import TASKS
from restoration.degradations.realistic import CAMERAS
from restoration.solvers import PRESETS, SOLVERS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_installed():
    packages = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in ROOT.glob("restoration/**/__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages | {"restoration.examples"}


def test_every_data_file_is_installed():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    folders = {"restoration.examples": ROOT / "examples"}
    installed = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in (folders.get(package) or ROOT / package.replace(".", "/")).glob(pattern)
    }
    needed = {
        path
        for folder in ("restoration", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    left_out = {path for path in needed - installed if path.suffix not in {".py", ".pyc"}}
    assert not left_out


def test_the_licence_is_the_same_everywhere():
    named = [PROJECT["project"]["license"]]
    for card in (ROOT / "README.md", ROOT / "CITATION.cff", *ROOT.glob("restoration/weights/*/README.md")):
        named += re.findall(r"^license: (.+)$", card.read_text(), re.MULTILINE)
    assert {name.lower() for name in named} == {"apache-2.0"} and len(named) == 3 + len(
        [*ROOT.glob("restoration/weights/*/")]
    )
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_checkers_agree_on_the_python():
    tools = PROJECT["tool"]
    assert tools["ruff"]["target-version"] == "py" + tools["mypy"]["python_version"].replace(".", "")
    assert PROJECT["project"]["requires-python"] == ">=" + tools["mypy"]["python_version"]


def test_no_file_is_long():
    lengths = {path.name: len(path.read_text().splitlines()) for path in ROOT.glob("restoration/**/*.py")}
    assert max(lengths.values()) <= 300, {name: length for name, length in lengths.items() if length > 300}


def imports() -> dict[str, set[str]]:
    """Of each module the modules of the package that it imports, wherever it does."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in ROOT.glob("restoration/**/*.py")
    }
    needed: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= (inside & modules.keys()) or ({node.module} & modules.keys())
        needed[module] = names
    return needed


def test_no_module_imports_itself_by_way_of_others():
    tuple(graphlib.TopologicalSorter(imports()).static_order())  # CycleError names the circle


def test_no_import_climbs():
    """CONTRIBUTING says the floors; what has none is a command, which may import any."""
    floors = [
        {"files", "knobs", "diffusion", "parser", "weights"}, {"degradations", "priors"},
        {"solvers", "evaluation"}, {"record"}, {"pace", "training"}, {"run"}, {"commands", "page"},
    ]  # fmt: skip
    height = {name: level for level, names in enumerate(floors) for name in names}
    climbing = {
        (module, name)
        for module, names in imports().items()
        for name in names
        if height.get(name.split(".")[1], 9) > height.get(module.partition(".")[2].split(".")[0], 9)
    }
    assert not climbing


def test_the_format_is_checked():
    for page in ("README.md", "CONTRIBUTING.md"):
        assert "ruff check . && ruff format --check . && mypy" in (ROOT / page).read_text()


TEXTS = {
    path: path.read_text()
    for pattern in (
        "*.md",
        "*.toml",
        "docs/**/*.md",
        "restoration/**/*.md",
        "restoration/**/*.py",
        "tests/*.py",
    )
    for path in ROOT.glob(pattern)
}


def test_named_files_exist():
    pattern = r"(?:restoration|docs|tests|examples)/[\w/.-]+\.(?:py|md)\b"
    missing = {
        (path.name, name)
        for path, text in TEXTS.items()
        for name in re.findall(pattern, text)
        if not (ROOT / name).is_file()
    }
    assert not missing


def test_named_modules_exist():
    missing = set()
    for path, text in TEXTS.items():
        for name in re.findall(r"\brestoration(?:\.[a-z_]\w*)+", text):
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                missing.add((path.name, name))
    assert {name for _, name in missing} == {"restoration.examples"}, (
        missing
    )  # which only an installation has


def test_named_settings_exist():
    """In commands: the values of --solver, --task, --preset and --set; capitals stand for any."""
    named = {**SOLVERS, **TASKS, **EXPOSURES}
    offered = {
        "solver": set(SOLVERS),
        "task": {*TASKS, *CORRUPTIONS, *CAMERAS},
        "preset": {preset for presets in PRESETS.values() for preset in presets},
    }
    knobs = {field.name for cls in named.values() for field in dataclasses.fields(cls)}
    for path, text in TEXTS.items():
        if path.suffix == ".md":
            for option, names in offered.items():
                given = re.findall(rf"--{option} (?:\"([^\"]+)\"|([a-z][\w+-]*))", text)
                assert {quoted or plain for quoted, plain in given} <= names, path.name
            for settings in re.findall(r"--set ((?:[a-z_]+=[^\s`)]+ ?)+)", text):
                assert {pair.partition("=")[0] for pair in settings.split()} <= knobs, (path.name, settings)


def test_cited_equations_exist():
    """By page and number, or by number alone in a module that names one page for all of its numbers."""
    for path in ROOT.glob("restoration/**/*.py"):
        text = path.read_text()
        cited = re.findall(r"(docs/methods/[\w-]+\.md)\):? \((\d+)\)", text)
        cited += re.findall(r"(docs/methods/[\w-]+\.md) \((\d+)\)", text)
        page = re.search(r"[Nn]umbers are those of (docs/methods/[\w-]+\.md)", text)
        if page:
            remarks = " ".join([*re.findall(r'"""(.*?)"""', text, re.DOTALL), *re.findall(r"#(.*)", text)])
            cited += [(page[1], number) for number in re.findall(r"(?<![\w.])\((\d+)\)", remarks)]
        for name, number in cited:
            assert rf"\tag{{{number}}}" in (ROOT / name).read_text(), (path.name, name, number)
    for page in (ROOT / "docs/methods").glob("*.md"):
        numbers = [*map(int, re.findall(r"\\tag\{(\d+)\}", page.read_text()))]
        assert numbers == [*range(1, len(numbers) + 1)]

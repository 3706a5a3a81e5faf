"""The rules of the house: a light import, rooms that look one way, one source, complete pins."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "chronos_dysts"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name not in {"__init__.py", "_modidx.py"})
HEAVY = {"torch", "transformers", "dysts", "numpy", "scipy", "pandas", "gluonts", "chronos", "heyoka", "matplotlib"}


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports(path):
    """The absolute names that a module imports, anywhere in it."""
    package = module_name(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def notebook_numbers():
    """The number of the notebook that each module is made from: {"chronos_dysts.systems": 0, …}."""
    numbers = {}
    for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        target = re.search(r"^#\|\s*default_exp\s+(\S+)", text, re.MULTILINE)
        if target:
            numbers[f"chronos_dysts.{target[1]}"] = int(path.name.split("_")[0])
    return numbers


def tracked():
    """The files of the repository, as git sees them (also those that are not committed yet)."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git working tree")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


# ---- the import ----


def python(code):
    return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, cwd=ROOT).stdout


def test_the_bare_import_is_light():
    loaded = json.loads(python("import json, sys, chronos_dysts; print(json.dumps(sorted(sys.modules)))"))
    assert not HEAVY & set(loaded)


def test_the_bare_import_takes_less_than_half_a_second():
    def seconds(code):
        start = time.perf_counter()
        python(code)
        return time.perf_counter() - start

    assert statistics.median(seconds("import chronos_dysts") for _ in range(5)) < 0.5


def test_rooms_are_attributes_that_load_on_use():
    rooms = {path.stem for path in MODULES if path.parent == PACKAGE}
    listed = json.loads(python("import json, chronos_dysts as cd; print(json.dumps(dir(cd)))"))
    assert rooms <= set(listed)
    assert "systems" in rooms
    assert python("import chronos_dysts as cd; print(cd.systems.__name__)").strip() == "chronos_dysts.systems"
    import chronos_dysts

    with pytest.raises(AttributeError, match="no attribute 'sistems'"):
        chronos_dysts.sistems


# ---- the rooms ----


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_room_imports_only_rooms_with_a_smaller_number(path):
    numbers = notebook_numbers()
    number = numbers.get(module_name(path))
    if number is None:
        pytest.skip("not made from a notebook")
    for name in imports(path):
        other = next((room for room in (name, name.rpartition(".")[0]) if room in numbers), None)
        if other and other != module_name(path):
            assert numbers[other] < number, f"{module_name(path)} ({number:02}) imports {other} ({numbers[other]:02})"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_exported_code_needs_no_development_tools(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"nbdev", "fastcore", "execnb", "pytest", "hypothesis", "sphinx"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_what_a_module_imports_is_a_declared_requirement(path):
    declared = {canonicalize_name(requirement.name) for requirement in ranges()}
    providers = importlib.metadata.packages_distributions()
    for name in {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"chronos_dysts", ""}:
        distributions = {canonicalize_name(d) for d in providers.get(name, [name])}
        assert distributions & declared, f"{name} is in no requirement of setup.py"


# ---- one source ----


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """The files that the check looks at, with the uncommitted changes of this tree, brought in step."""
    tree = tmp_path_factory.mktemp("original")
    for path in tracked():
        name = path.relative_to(ROOT)
        if name.parts[0] in {"nbs", "chronos_dysts", "tools", "settings.ini", "README.md", "pyproject.toml"}:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / name)
    done = notebooks(tree, "prepare")
    assert done.returncode == 0, done.stderr
    return tree


@pytest.fixture
def copy(original, tmp_path):
    """A copy in step, to change."""
    return shutil.copytree(original, tmp_path / "tree")


def notebooks(tree, command):
    return subprocess.run(
        [sys.executable, "tools/notebooks.py", command], cwd=tree, text=True, capture_output=True, stdin=subprocess.DEVNULL
    )


def contents(tree):
    return {p: p.read_bytes() for p in sorted(tree.rglob("*")) if p.is_file() and "__pycache__" not in p.parts}


def append(name, text):
    def change(tree):
        with open(tree / name, "a", encoding="utf-8") as file:
            file.write(text)

    return change


def add_cell(tree):
    path = tree / "nbs/45_forecasting.ipynb"
    nb = json.loads(path.read_text(encoding="utf-8"))
    source = ["#| export\n", "def one_more():\n", "    return 1"]
    nb["cells"].append(
        {"cell_type": "code", "execution_count": None, "id": "0fabcdef", "metadata": {}, "outputs": [], "source": source}
    )
    path.write_text(json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def edit_index(tree):
    path = tree / "nbs/index.ipynb"
    nb = json.loads(path.read_text(encoding="utf-8"))
    nb["cells"].append({"cell_type": "markdown", "id": "0fabcdee", "metadata": {}, "source": ["One more sentence."]})
    path.write_text(json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def count_a_cell(tree):
    path = tree / "nbs/45_forecasting.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace('"execution_count": null', '"execution_count": 7', 1))


def remove_notebook(tree):
    (tree / "nbs/45_forecasting.ipynb").unlink()


def remove_module(tree):
    (tree / "chronos_dysts/forecasting.py").unlink()


ONE_SIDED = {
    "module": (append("chronos_dysts/forecasting.py", "\nx = 1\n"), "chronos_dysts/forecasting.py"),
    "module removed": (remove_module, "chronos_dysts/forecasting.py is missing"),
    "notebook": (add_cell, "chronos_dysts/forecasting.py"),
    "notebook not clean": (count_a_cell, "nbs/45_forecasting.ipynb is not clean"),
    "notebook removed": (remove_notebook, "chronos_dysts/forecasting.py is exported by no notebook"),
    "index": (edit_index, "README.md"),
    "README": (append("README.md", "\nAnother word.\n"), "README.md"),
}


def test_the_check_accepts_a_tree_in_step(copy):
    before = contents(copy)
    done = notebooks(copy, "check")
    assert done.returncode == 0, done.stderr
    assert contents(copy) == before


@pytest.mark.parametrize("kind", ONE_SIDED)
def test_a_one_sided_change_fails_and_is_not_repaired(kind, copy):
    change, named = ONE_SIDED[kind]
    change(copy)
    before = contents(copy)
    done = notebooks(copy, "check")
    assert done.returncode == 1
    assert named in done.stderr
    assert "make prepare" in done.stderr
    assert contents(copy) == before
    # and `make prepare` mends it
    assert notebooks(copy, "prepare").returncode == 0
    assert notebooks(copy, "check").returncode == 0


# ---- files ----


def test_no_file_names_a_path_of_the_machine_it_was_made_on():
    # A path is only this machine's if it exists in the documents of no other: homes, temporary folders, the checkout.
    patterns = {str(ROOT) + "/", str(Path.home()) + "/", sysconfig.get_path("purelib")}
    pattern = re.compile("|".join([*map(re.escape, patterns), r"(?<![\w.])/(?:home|Users)/\w+/", r"/site-packages/"]))
    found = []
    for path in tracked():
        if path.suffix in {".png", ".jpg", ".svg", ".arrow", ".safetensors", ".parquet"} or path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {m[0]}" for m in pattern.finditer(text)]
    assert not found


def test_no_large_or_binary_files_are_kept():
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked()}
    models = {name: size for name, size in sizes.items() if name.startswith("chronos_dysts/data/models/")}
    assert sum(models.values()) <= 8 * 2**20  # the bases that come with the package
    assert {name: size for name, size in sizes.items() if size > 1_000_000 and name not in models} == {}


# ---- versions ----


def pins(*names):
    """The pinned requirements of the named files, as {canonical name: Requirement}; a name stands once."""
    found = {}
    for name in names:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            line = line.split("#")[0].strip()
            if line and not line.startswith("-"):
                requirement = Requirement(line)
                assert canonicalize_name(requirement.name) not in found, f"{requirement.name} is pinned twice"
                found[canonicalize_name(requirement.name)] = requirement
    return found


def ranges():
    """The ranges of setup.py, those of the extras too."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in {"REQUIREMENTS", "EXTRAS"}
    }
    return [Requirement(text) for text in [*values["REQUIREMENTS"], *sum(values["EXTRAS"].values(), [])]]


def test_pins_are_exact_and_inside_the_ranges():
    pinned = pins("requirements.txt", "requirements-dev.txt")
    for requirement in pinned.values():
        assert [s.operator for s in requirement.specifier] == ["=="], f"{requirement} is not pinned"
    assert str(pinned["torch"].specifier) == "==2.13.0"
    for requirement in ranges():
        pin = pinned.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement.name} of setup.py is not pinned"
        version = next(iter(pin.specifier)).version
        assert requirement.specifier.contains(version, prereleases=True), f"{pin} is outside {requirement}"


@pytest.mark.parametrize("files", [["requirements.txt"], ["requirements.txt", "requirements-dev.txt"]], ids=["runtime", "all"])
def test_pins_are_complete(files):
    """What a pinned package requires here is pinned too: an install next year brings the same set."""
    pinned = pins(*files)
    free = {"pip"}
    missing = []
    for name, pin in pinned.items():
        if pin.marker and not pin.marker.evaluate():
            continue
        # The accelerator libraries are pinned by torch itself, and differ between its builds.
        if name == "torch":
            continue
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker and not any(requirement.marker.evaluate({"extra": e}) for e in ["", *pin.extras]):
                continue
            if canonicalize_name(requirement.name) not in pinned.keys() | free:
                missing.append(f"{name} needs {requirement.name}")
    assert not missing


def test_the_installed_set_is_the_pinned_set():
    """Tests on other versions than the pinned ones say little: after an edit, `make test` installs them."""
    if os.environ.get("CHRONOS_DYSTS_ANY_VERSIONS"):
        pytest.skip("CHRONOS_DYSTS_ANY_VERSIONS is set")
    other = []
    for name, pin in pins("requirements.txt", "requirements-dev.txt").items():
        if pin.marker is None or pin.marker.evaluate():
            installed = Version(importlib.metadata.version(name)).public
            if not pin.specifier.contains(installed, prereleases=True):
                other.append(f"{pin}: {installed} is installed")
    assert not other


def test_python_versions_agree():
    """setup.py, Makefile and the workflow speak of the same Pythons."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    versions = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PYTHONS"
    )
    settings = ConfigParser(delimiters=["="])
    settings.read(ROOT / "settings.ini")
    assert versions[0] == settings["DEFAULT"]["min_python"]
    bounds = [tuple(map(int, v.split("."))) for v in (versions[0], versions[-1])]
    assert f"{bounds[0]} <= sys.version_info[:2] <= {bounds[1]}" in (ROOT / "Makefile").read_text()
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    assert re.search(r"python: \[(.*)\]", workflow)[1] == ", ".join(f'"{v}"' for v in versions)


# ---- what leaves the house ----


def test_the_recipe_for_conda_is_what_the_requirements_make():
    done = subprocess.run([sys.executable, ROOT / "tools/recipe.py", "--check"], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_changelog_has_a_section_for_this_version():
    import chronos_dysts

    assert re.search(rf"^## {re.escape(chronos_dysts.__version__)}$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_workflows_are_yaml_and_run_what_there_is():
    import yaml

    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = {}
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        flow = yaml.safe_load(path.read_text())
        assert flow["permissions"] == {"contents": "read"}, "a job that may more says so itself"
        found[path.stem] = flow["jobs"]
        for job in flow["jobs"].values():
            assert job.get("timeout-minutes") or "needs" in job
            for step in job["steps"]:
                for target in re.findall(r"\bmake ([\w-]+)", step.get("run", "")):
                    assert target in targets
    assert {"test", "docs", "release"} <= set(found) and "pypa/gh-action-pypi-publish" in str(found["release"])


def test_the_image_is_built_from_files_that_there_are():
    text = (ROOT / "Dockerfile").read_text()
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists() and name in allowed, name
    assert 'ENTRYPOINT ["chronos-dysts"]' in text


def test_the_source_distribution_can_be_built_from(tmp_path):
    """`python -m build` makes the wheel from it, and so does whoever packages for conda."""
    import tarfile

    tree = tmp_path / "tree"
    for path in tracked():
        name = path.relative_to(ROOT)
        if name.parts[0] in {"chronos_dysts", "setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md", "CITATION.cff", "requirements.txt"}:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / name)
    done = subprocess.run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(tree)], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    (unpacked,) = (tmp_path / "out").iterdir()
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=unpacked, text=True, capture_output=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == re.search(r"^version = (.+)$", (ROOT / "settings.ini").read_text(), re.MULTILINE)[1], done.stderr[-2000:]

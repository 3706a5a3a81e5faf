"""The wheel, built from the tree and installed alone: it has everything, and needs the tree for nothing."""

import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "chronos_dysts"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel of this tree, built in a copy of it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "settings.ini", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    shutil.copytree(ROOT / PACKAGE, source / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, text=True, capture_output=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def environment(wheel, tmp_path_factory):
    """A new environment with the wheel in it, that sees the dependencies of this one but not the tree.

    Returns (the environment's folder, a function that runs a command in it)."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", *install, str(wheel)], check=True)
    # Only now the dependencies, else pip would take this tree's own installation for the package. A folder that is added
    # by a .pth file has its own .pth files ignored: the editable installation of this tree is not seen.
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}) + "\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}

    def run(*command, cwd, **options):
        command = [str(folder / "bin" / command[0]), *map(str, command[1:])]
        return subprocess.run(command, text=True, capture_output=True, cwd=cwd, env=clean, stdin=subprocess.DEVNULL, **options)

    return folder, run


def test_the_wheel_has_all_modules_and_configuration_files(wheel):
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and path.suffix in {".py", ".yaml", ".json"} and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert expected - names == set()
    assert f"{PACKAGE}/configs/train.yaml" in names
    # and nothing else: no tests, no notebooks, no data
    others = {name for name in names if not name.startswith(PACKAGE)}
    assert others == set()


def test_the_wheel_says_what_it_is(wheel):
    archive = zipfile.ZipFile(wheel)
    info = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(archive.read(info).decode())
    assert metadata["Name"].replace("_", "-") == "chronos-dysts"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    assert metadata["License-Expression"] or metadata["License"] == "Apache-2.0"
    assert {"lab", "wandb", "dask", "probing", "docs", "dev"} <= set(metadata.get_all("Provides-Extra"))
    assert any(line.startswith("torch") for line in metadata.get_all("Requires-Dist"))
    assert "make demo" in metadata.get_payload()
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_the_package_comes_from_the_wheel(environment, tmp_path):
    folder, run = environment
    code = f"import {PACKAGE} as p, json, sys; print(json.dumps([p.__file__, p.__version__, dir(p), sys.path]))"
    done = run("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    file, version, rooms, path = json.loads(done.stdout)
    assert Path(file).is_relative_to(folder)
    assert str(ROOT) not in path
    assert version in (ROOT / "settings.ini").read_text()
    assert {"systems", "store", "models", "cli"} <= set(rooms)


def test_every_module_imports_from_the_wheel(environment, tmp_path):
    _, run = environment
    code = (
        f"import importlib, pkgutil, {PACKAGE}\n"
        f"for m in pkgutil.walk_packages({PACKAGE}.__path__, '{PACKAGE}.'):\n"
        "    if not m.name.endswith('_modidx'): importlib.import_module(m.name); print(m.name)"
    )
    done = run("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{PACKAGE}.training" in done.stdout.split()


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["demo", "--help"]], ids=" ".join)
def test_the_command_works_from_the_wheel(arguments, environment, tmp_path):
    _, run = environment
    done = run("chronos-dysts", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "chronos-dysts" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_runs_from_the_wheel(environment, tmp_path):
    _, run = environment
    tiny = ["generate.systems=[Lorenz,Halvorsen,Thomas]", "generate.n_params=1", "generate.length=256", "context_length=64",
            "prediction_length=16", "train.max_steps=3", "evaluate.n_windows=1", "evaluate.n_bootstrap=20"]
    done = run("chronos-dysts", "demo", *tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "demo" / "evaluation" / "report.html").stat().st_size > 10_000

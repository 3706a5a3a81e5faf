"""recipe/recipe.yaml, a draft for conda-forge, from setup.py and settings.ini.

    python tools/recipe.py            write it
    python tools/recipe.py --check    fail where it is out of step
"""

import argparse
import ast
import sys
from configparser import ConfigParser
from pathlib import Path

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
# What has another name there. conda-forge's heyoka is the C++ library, its bindings are heyoka.py.
NAMES = {"torch": "pytorch", "heyoka": "heyoka.py", "huggingface-hub": "huggingface_hub"}


def requirements(root=ROOT):
    """The list REQUIREMENTS of setup.py, without running it."""
    for node in ast.parse((root / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "REQUIREMENTS":
            return [Requirement(text) for text in ast.literal_eval(node.value)]
    raise SystemExit("setup.py has no REQUIREMENTS")


def conda(requirement):
    """A requirement in conda's words; extras have no counterpart, and markers are conditions."""
    name = NAMES.get(requirement.name, requirement.name)
    text = f"{name} {','.join(sorted(str(s) for s in requirement.specifier))}".strip()
    # Wheels of heyoka are for Linux alone, conda-forge has it everywhere.
    return [text, *(["toolz"] if requirement.name == "gluonts" else [])]


def recipe(root=ROOT):
    config = ConfigParser(delimiters=["="])
    config.read(root / "settings.ini", encoding="utf-8")
    cfg = config["DEFAULT"]
    run = sorted({text for requirement in requirements(root) for text in conda(requirement)})
    named = {text.split()[0] for text in run if " " in text}
    run = [text for text in run if " " in text or text not in named]
    return {
        "schema_version": 1,
        "context": {"version": cfg["version"], "python_min": cfg["min_python"]},
        "package": {"name": cfg["repo"], "version": "${{ version }}"},
        "source": {"url": f"https://pypi.org/packages/source/c/{cfg['repo']}/{cfg['lib_name']}-${{{{ version }}}}.tar.gz", "sha256": "0" * 64},
        "build": {"number": 0, "noarch": "python", "script": "${{ PYTHON }} -m pip install . -vv --no-deps --no-build-isolation",
                  "python": {"entry_points": [f"{cfg['repo']} = {cfg['lib_name']}.cli:main"]}},
        "requirements": {"host": ["python ${{ python_min }}.*", "pip", "setuptools >=77"], "run": ["python >=${{ python_min }},<3.14", *run]},
        "tests": [{"python": {"imports": [cfg["lib_name"], f"{cfg['lib_name']}.cli"], "pip_check": True, "python_version": "${{ python_min }}.*"}},
                  {"script": [f"{cfg['repo']} --help", f"{cfg['repo']} generate systems=Lorenz split=train n_params=1 length=64 workers=1", f"{cfg['repo']} verify"]}],
        "about": {"homepage": cfg["git_url"], "summary": cfg["description"], "license": "Apache-2.0", "license_file": "LICENSE",
                  "documentation": cfg["doc_host"] + cfg["doc_baseurl"], "repository": cfg["git_url"]},
        "extra": {"recipe-maintainers": [cfg["user"]]},
    }


def text(root=ROOT):
    head = "# Written by tools/recipe.py from setup.py and settings.ini; the checksum is filled in when the release is on PyPI.\n"
    return head + yaml.safe_dump(recipe(root), sort_keys=False, width=1000, allow_unicode=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    path = ROOT / "recipe/recipe.yaml"
    if not parser.parse_args(argv).check:
        path.write_text(text(), encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text():
        sys.exit("recipe/recipe.yaml is not what setup.py and settings.ini make: python tools/recipe.py")


if __name__ == "__main__":
    main()

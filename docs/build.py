"""The site, from the notebooks: nbdev's processing, an adapter to MyST, Sphinx with warnings as errors.

    python docs/build.py [--output _docs] [--no-npm]

Nothing is executed but what nbdev needs to show signatures (imports and exported cells); outputs are those stored in the
notebooks. MathJax and the widgets' script are taken from npm where it is at hand, so that the pages work offline; else the
pages load them from the network.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "tools")]

import adapter  # noqa: E402
import notebooks  # noqa: E402

# npm package: what of it the pages load
SCRIPTS = {
    "mathjax@3.2.2": {
        "package/es5/tex-mml-chtml.js": "mathjax/tex-mml-chtml.js",
        "package/es5/output/chtml/fonts/woff-v2/": "mathjax/output/chtml/fonts/woff-v2/",
        "package/es5/input/tex/extensions/": "mathjax/input/tex/extensions/",
    },
    # with the fonts of its icons, which it looks for beside itself
    "@jupyter-widgets/html-manager@1.0.15": {"package/dist/embed.js": "embed.js", "package/dist/embed.js.LICENSE.txt": "embed.js.LICENSE.txt",
                                             **{f"package/dist/*.{kind}": "" for kind in ("woff2", "woff", "ttf")}},
}


def stage(tree):
    """A copy of the notebooks and of what nbdev reads, in the empty folder `tree`."""
    for name in notebooks.sources(ROOT):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    for path in (tree / "nbs").rglob("*.ipynb"):
        adapter.split_title(path)


# nbdev evaluates annotations; one that only a type checker imports stays a string.
PROCESS = """
import inspect

import fastcore.docments
from nbdev.serve import proc_nbs


def signature(symbol, *args, eval_str=False, **options):
    try:
        return inspect.signature(symbol, *args, eval_str=eval_str, **options)
    except NameError:
        return inspect.signature(symbol, *args, **options)


fastcore.docments.signature = signature
proc_nbs(n_workers=0, force=True)
"""


def process(tree):
    """nbdev's processors over the staged notebooks: directives applied, `show_doc` of every exported symbol."""
    env = {**os.environ, "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, "-c", PROCESS], cwd=tree, env=env, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"nbdev could not process the notebooks:\n{done.stdout}{done.stderr}")
    return tree / "_proc"


def place(name, files):
    """Where a file of a package goes: by its own name, by that of its folder, or by a pattern; None where it is not wanted."""
    for of, to in files.items():
        if name == of or (of.endswith("/") and name.startswith(of)):
            return to + name[len(of) :]
        if fnmatch(name, of):
            return to + Path(name).name
    return None


def fetch_scripts(static, cache, wanted):
    """Lay the scripts of the npm packages `wanted` into `static`; says what could not be had."""
    npm = shutil.which("npm")
    for package in wanted:
        files, archive = SCRIPTS[package], cache / (package.strip("@").replace("/", "-").replace("@", "-") + ".tgz")
        if not archive.exists() and npm:
            cache.mkdir(parents=True, exist_ok=True)
            subprocess.run([npm, "pack", package, "--silent"], cwd=cache, capture_output=True, stdin=subprocess.DEVNULL)
        if not archive.exists():
            print(f"{package} is not at hand (npm): the pages load it from the network")
            continue
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                target = place(member.name, files)
                if target and member.isfile():
                    path = static / target
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(tar.extractfile(member).read())


def build(output, work, npm=True):
    """Build the site into `output`, with `work` for what lies between; returns Sphinx' exit status."""
    for folder in (work / "tree", work / "source"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    stage(work / "tree")
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    widgets = adapter.adapt(process(work / "tree"), work / "source", work / "tree", config["DEFAULT"])
    if npm:
        wanted = [package for package in SCRIPTS if widgets or not package.startswith("@jupyter-widgets")]
        fetch_scripts(work / "source" / "_static", work / "npm", wanted)
    shutil.copyfile(ROOT / "CHANGELOG.md", work / "source" / "changelog.md")
    shutil.copytree(ROOT / "docs" / "_static", work / "source" / "_static", dirs_exist_ok=True)
    from sphinx.cmd.build import main

    # Built inside `work`, since MyST writes a folder beside its output too.
    shutil.rmtree(work / "html", ignore_errors=True)
    status = main(
        ["-W", "--keep-going", "-q", "-E", "-b", "html", "-c", str(ROOT / "docs"), "-d", str(work / "doctrees")]
        + [str(work / "source"), str(work / "html")]
    )
    if status == 0:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(work / "html", output, ignore=shutil.ignore_patterns(".buildinfo*", "_sources"))
    return status


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "_docs", help="where the site goes")
    parser.add_argument("--work", type=Path, default=ROOT / "_sphinx", help="where the steps between go")
    parser.add_argument("--no-npm", action="store_true", help="fetch no scripts: the pages load them from the network")
    args = parser.parse_args(argv)
    status = build(args.output.resolve(), args.work.resolve(), npm=not args.no_npm)
    if status == 0:
        shown = os.path.relpath(args.output)
        print(f"the site is in {shown}/: open {shown}/index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())

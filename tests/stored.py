"""What the two picture makers among the tests share: stored trajectories by name, and a place for figures."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a checkout works without installation

FIGURES = ROOT / "tests" / "figures"


def stored(names, data_dir="data", most=4):
    """Up to `most` trajectories of each named system from `data_dir`; of systems that are not there, some made for the occasion."""
    from rich.console import Console

    from chronos_dysts.generation import generate
    from chronos_dysts.store import open_store
    from chronos_dysts.systems import get_system

    for name in names:
        get_system(name)  # an unknown name is told before anything is made
    found = {}
    for name in names:
        folder = next((folder for folder in sorted(Path(data_dir).glob(f"*/{name}")) if any(folder.glob("*.arrow"))), None)
        if folder is not None:
            found[name] = open_store(folder)[:most]
            print(f"{name}: {len(found[name])} trajectories of {folder}")
            continue
        with TemporaryDirectory() as temporary:
            generate({"data_dir": temporary, "split": "train", "systems": [name], "n_params": 2}, Console(quiet=True))
            found[name] = open_store(Path(temporary) / "train")[:most]  # open files outlive their folder
        print(f"{name}: {data_dir}/ has none of it; trajectories were made for the picture")
    return found


def save(figure, name):
    """The figure as tests/figures/<name>.png, which git does not see."""
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / ".gitignore").write_text("*\n")
    path = FIGURES / f"{name}.png"
    figure.savefig(path)
    print(f"made {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def draw(make_figures, default):
    """Run `make_figures(names)` with the names on the command line; the exit code."""
    try:
        make_figures(sys.argv[1:] or default)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0

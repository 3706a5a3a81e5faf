"""Augmentations of stored trajectories: what of the dynamics is kept, and what is new.

    pytest tests/test_augmentations.py                   tests
    python tests/test_augmentations.py Lorenz Rossler    pictures of what each augmentation makes of them, in tests/figures/
"""

import sys


def make_figures(names):
    """For each system one picture: what is stored, and what each augmentation makes of it, in the plane and against time."""
    import matplotlib as mpl
    import numpy as np
    from stored import save, stored

    from chronos_dysts import augmentations, plots

    found = stored(names, most=2)
    trajectories = [some[0] for some in found.values()]
    if len(found) == 1:  # the projected skew takes two
        trajectories = list(*found.values())
    length = min(trajectory.length for trajectory in trajectories)
    entries = []
    for trajectory in trajectories:
        x = trajectory.target[:, :length]
        scale = x.std(1, keepdims=True)
        entries.append({"target": (x - x.mean(1, keepdims=True)) / np.where(scale > 0, scale, 1)})
    rows = {"stored, standardised": entries}
    for kind in ("RandomAffineTransform", "RandomConvexCombinationTransform", "RandomProjectedSkewTransform"):
        rows[kind] = list(getattr(augmentations, kind)(seed=2)(iter(entries), True))
    shown, looks = min(length, 400), plots.palette(["y1", "y2", "y3"])  # further coordinates are not drawn
    for i, trajectory in enumerate(trajectories[: len(found)]):
        partner = trajectories[(i + 1) % len(trajectories)].system
        with mpl.rc_context(plots.STYLE):
            figure = plots.Figure(figsize=(10, 2.1 * len(rows)))
            axes = figure.subplots(len(rows), 2, width_ratios=(1, 3))
            for (title, made), (plane, series) in zip(rows.items(), axes):
                y = made[i]["target"]
                plane.plot(y[0], y[1] if len(y) > 1 else np.gradient(y[0]), color=plots.INK, lw=0.5)
                plane.set(xlabel="y1", ylabel="y2" if len(y) > 1 else "slope of y1")
                for channel, (label, look) in zip(y, looks.items()):
                    series.plot(np.arange(shown) * trajectory.dt / trajectory.period, channel[:shown], lw=1, color=look["color"], label=label)
                of = f"{trajectory.system} and {partner}" if "Skew" in title else trajectory.system
                series.set_title(f"{title} of {of}" if made is not entries else f"{of}, {title}")
            axes[0, 1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(looks))
            axes[-1, 1].set_xlabel("time (dominant periods)")
        save(figure, f"augmentations_{trajectory.system}")


if __name__ == "__main__":  # before pytest is imported: the pictures do without it
    from stored import draw

    sys.exit(draw(make_figures, ["Lorenz", "Rossler"]))

# ---- tests ----

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from chronos_dysts.augmentations import RandomAffineTransform, RandomConvexCombinationTransform, RandomProjectedSkewTransform
from chronos_dysts.generation import generate
from chronos_dysts.store import open_store
from chronos_dysts.systems import get_system

TESTS = Path(__file__).resolve().parent
ALL = (RandomAffineTransform, RandomConvexCombinationTransform, RandomProjectedSkewTransform)

each = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four trajectories each of two flows of three dimensions."""
    folder = tmp_path_factory.mktemp("augmented")
    generate({"data_dir": folder / "data", "split": "train", "systems": ["Lorenz", "Rossler"], "n_params": 4, "length": 512, "seed": 5}, Console(quiet=True))
    return open_store(folder / "data" / "train")


@pytest.fixture
def batch(store):
    """Lorenz and Rossler in turn, (8, 3, 512), in double precision."""
    order = [i + 4 * flow for i in range(4) for flow in (0, 1)]
    return torch.from_numpy(np.stack([store[i].target for i in order]).astype(float))


def rng(seed=0):
    return np.random.default_rng(seed)


def linear_fit(x, y):
    """The best `y = A x + b`: A, b, and the share of the variance of y that it leaves."""
    design = np.vstack([x, np.ones(x.shape[1])])
    coefficients, *_ = np.linalg.lstsq(design.T, y.T, rcond=None)
    rest = y.T - design.T @ coefficients
    return coefficients[:-1].T, coefficients[-1], rest.var(0).sum() / y.var(1).sum()


def test_an_affine_image_is_the_same_flow_in_other_coordinates(store, batch):
    """The map that was drawn is found again from the values, and through it the image obeys the equations: y' = A f(A⁻¹(y - b)).
    Each image has a map of its own."""
    images, maps = RandomAffineTransform()(batch, rng()).numpy(), []
    for i, (x, y) in enumerate(zip(batch.numpy(), images)):
        A, b, left = linear_fit(x, y)
        assert left < 1e-12 and np.linalg.matrix_rank(A) == 3
        trajectory = store[i // 2 + 4 * (i % 2)]
        system = get_system(trajectory.system).with_params(trajectory.params)
        back = np.linalg.solve(A, y - b[:, None])
        slope = (y[:, :-4] - 8 * y[:, 1:-3] + 8 * y[:, 3:-1] - y[:, 4:]) / (12 * trajectory.dt)
        field = (A @ system.vector_field(back))[:, 2:-2]
        assert np.sqrt(((slope - field) ** 2).mean() / (field**2).mean()) < 0.01
        maps.append(A)
    assert min(np.abs(a - b).max() for i, a in enumerate(maps) for b in maps[:i]) > 0.1


def test_a_convex_combination_stays_between_the_coordinates(batch):
    images = RandomConvexCombinationTransform(num_combinations=5, alpha=0.7)(batch, rng()).numpy()
    for x, y in zip(batch.numpy(), images):
        A, b, left = linear_fit(x, y)
        assert left < 1e-12 and np.abs(b).max() < 1e-8
        assert (A > -1e-9).all() and np.allclose(A.sum(1), 1)
        assert (y <= x.max(0) + 1e-9).all() and (y >= x.min(0) - 1e-9).all()


def test_a_projected_skew_has_both_flows_in_it(batch):
    """It is linear in the two flows together, and neither flow alone explains it: the recurrences of Lorenz are not those of Rossler."""
    unit = (batch - batch.mean(-1, keepdim=True)) / batch.std(-1, keepdim=True)
    for i, y in enumerate(RandomProjectedSkewTransform()(unit, rng()).numpy()):
        own, other = unit[i].numpy(), unit[(i + 1) % len(unit)].numpy()
        assert linear_fit(np.vstack([own, other]), y)[2] < 1e-12
        assert linear_fit(own, y)[2] > 0.05 and linear_fit(other, y)[2] > 0.05


@each
def test_no_step_knows_of_another(kind, batch):
    """The same draw on a window is the window of the same draw: nothing of the future gets into a context."""
    whole, window = kind()(batch, rng()), kind()(batch[..., 100:200], rng())
    assert torch.allclose(whole[..., 100:200], window, rtol=1e-12, atol=1e-10)


@each
def test_a_generator_decides(kind, batch):
    assert torch.equal(kind()(batch, rng(1)), kind()(batch, rng(1)))
    assert not torch.equal(kind()(batch, rng(1)), kind()(batch, rng(2)))
    stream = rng(1)
    first = kind()(batch, stream)
    assert not torch.equal(first, kind()(batch, stream)), "a stream goes on"
    torch.manual_seed(0), np.random.seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    kind()(batch, rng(1))
    assert torch.equal(before[0], torch.random.get_rng_state()) and (before[1] == np.random.get_state()[1]).all(), "the global generators are left alone"


@each
def test_gluonts_applies_it_to_the_files(kind, store):
    """From the Arrow files through GluonTS come the values of the batch: same generator, same order."""
    from gluonts.dataset.common import FileDataset

    folder = store.paths[0].parent.parent
    entries = sorted(FileDataset(folder, freq="h", one_dim_target=False), key=lambda entry: entry["item_id"])
    made = list(kind(seed=4)(iter(entries), True))
    targets = torch.from_numpy(np.stack([entry["target"] for entry in entries]))
    assert np.allclose(np.stack([entry["target"] for entry in made]), kind()(targets, rng(4)).numpy(), rtol=1e-4, atol=1e-4)
    assert [entry["item_id"] for entry in made] == [entry["item_id"] for entry in entries]
    untouched = list(kind(seed=4)(iter(entries), False))
    assert all(np.array_equal(a["target"], b["target"]) for a, b in zip(untouched, entries)), "only training data are augmented"


@each
def test_stored_values_are_left_as_they_are(kind, store):
    """Targets are views of the file: an augmentation makes new arrays."""
    before = [item.target.copy() for item in store]
    list(kind()(({"target": item.target} for item in store), True))
    assert all(np.array_equal(item.target, old) for item, old in zip(store, before))


def test_the_pictures(tmp_path):
    run = lambda *names: subprocess.run([sys.executable, TESTS / "test_augmentations.py", *names], cwd=tmp_path, text=True, capture_output=True, timeout=120)  # noqa: E731
    done = run("Lorenz", "Rossler")
    assert done.returncode == 0, done.stderr
    made = [Path(path) for path in re.findall(r"^made (.*\.png)$", done.stdout, re.M)]
    assert [path.name for path in made] == ["augmentations_Lorenz.png", "augmentations_Rossler.png"]
    assert all(path.parent == TESTS / "figures" and path.stat().st_size > 10_000 for path in made)
    wrong = run("Rosler")
    assert wrong.returncode == 1 and "did you mean 'Rossler'" in wrong.stderr and "Traceback" not in wrong.stderr

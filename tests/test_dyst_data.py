"""Stored trajectories: are they the flows they say they are?

    pytest tests/test_dyst_data.py              tests
    python tests/test_dyst_data.py Lorenz …     pictures of what is stored in data/ (or made on the spot), in tests/figures/
"""

import sys


def make_figures(names):
    """For each system an attractor and time series, several trajectories together."""
    from stored import save, stored

    from chronos_dysts.plots import plot_attractor, plot_trajectory

    for name, trajectories in stored(names).items():
        shown = {trajectory.item_id.rpartition("/")[2]: trajectory.target for trajectory in trajectories}
        about = f"{name}: trajectories {', '.join(shown)}"
        save(plot_attractor(shown, title=about), f"dyst_data_{name}_attractor")
        first = trajectories[0]
        save(plot_trajectory(shown, dt=first.dt, period=first.period, title=about), f"dyst_data_{name}_series")


if __name__ == "__main__":  # before pytest is imported: the pictures do without it
    from stored import draw

    sys.exit(draw(make_figures, ["Lorenz"]))

# ---- tests ----

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from chronos_dysts.generation import generate
from chronos_dysts.store import open_store, read_manifest
from chronos_dysts.systems import get_system

TESTS = Path(__file__).resolve().parent
# Polynomials, an exponential with bursts, a drive with a phase, angles that wind up: of the last two other things are stored than the raw state
SYSTEMS = ("DoublePendulum", "Duffing", "Lorenz", "YuWang")
N_PARAMS, N_ICS = 3, 2

each = pytest.mark.parametrize("name", SYSTEMS)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dyst") / "data"
    config = {"data_dir": folder, "split": "train", "systems": SYSTEMS, "n_params": N_PARAMS, "n_ics": N_ICS, "seed": 3}
    generate(config, Console(quiet=True))
    return folder


@pytest.fixture
def trajectories(data_dir, name):
    return list(open_store(data_dir / "train", [name]))


def dysts_flow(trajectory):
    """The flow in dysts' own code at the parameters of a trajectory: its right-hand side, and what it makes of a raw state."""
    import dysts.flows

    flow = getattr(dysts.flows, trajectory.system)()
    values = [trajectory.params[key] for key in sorted(trajectory.params)]
    postprocess = getattr(flow, "_postprocessing", None)
    return lambda t, x: np.array(flow._rhs(*x, t, *values), float), (lambda x: np.array(postprocess(*x))) if postprocess else (lambda x: x)


def test_layout(data_dir):
    """One file for each sample, in the folder of its system, named by its number and length."""
    files = sorted(path.relative_to(data_dir).as_posix() for path in data_dir.rglob("*.arrow"))
    assert files == sorted(f"train/{name}/{sample}_T-1024.arrow" for name in SYSTEMS for sample in range(N_PARAMS * N_ICS))
    assert open_store(data_dir / "train/Lorenz/0_T-1024.arrow")[0].target.shape == (3, 1024)
    assert read_manifest(data_dir)["split"] == {"train": sorted(SYSTEMS)}


@each
def test_gluonts_reads_the_same(data_dir, trajectories, name):
    from gluonts.dataset.common import FileDataset

    for sample, trajectory in enumerate(trajectories):
        path = data_dir / "train" / name / f"{sample}_T-1024.arrow"
        (entry,) = FileDataset(path, freq="h", one_dim_target=False)
        assert entry["target"].dtype == np.float32 and np.array_equal(entry["target"], trajectory.target)
        assert entry["item_id"] == trajectory.item_id and str(entry["start"].date() if hasattr(entry["start"], "date") else entry["start"]).startswith("2000-01-01")
    assert len(list(FileDataset(data_dir / "train" / name, freq="h", one_dim_target=False))) == len(trajectories)


@each
def test_dysts_and_scipy_make_the_same_trajectory(trajectories, name):
    """From what a file says of itself - initial state, parameters, time step - the code of dysts and another integrator come to the
    same numbers, as far as chaos and single precision let them: two periods."""
    from scipy.integrate import solve_ivp

    for trajectory in trajectories[::2]:
        rhs, observe = dysts_flow(trajectory)
        n = int(2 * trajectory.period / trajectory.dt)
        times = trajectory.t0 + trajectory.dt * np.arange(n)
        found = solve_ivp(rhs, (times[0], times[-1]), trajectory.ic, t_eval=times, method="DOP853", rtol=1e-13, atol=1e-12)
        scale = trajectory.target.std(1, keepdims=True)
        assert np.abs((observe(found.y) - trajectory.target[:, :n]) / scale).max() < 1e-4


@pytest.mark.parametrize("name", [name for name in SYSTEMS if not get_system(name).observables])
def test_every_step_follows_the_equations(trajectories, name):
    """From end to end: what starts at one stored point is at the next ones in time, with the trajectory's own parameters, not the reference."""
    from chronos_dysts.integration import integrate_ensemble

    for trajectory in trajectories:
        x, steps = trajectory.target.astype(float), 10
        starts = np.arange(0, trajectory.length - steps, steps)
        scale = x.std(1, keepdims=True)

        def worst(system):
            ahead = integrate_ensemble(system, ics=x[:, starts].T, length=steps + 1, dt=trajectory.dt, engine="torch").states
            stored = np.stack([x[:, k : k + steps + 1] for k in starts])
            return (np.abs(ahead - stored) / scale).max()

        own = worst(get_system(name).with_params(trajectory.params))
        assert own < 1e-4 and worst(get_system(name)) > 100 * own


@each
def test_parameters_are_perturbed_and_initial_states_differ(trajectories, name):
    system = get_system(name)
    sets = np.array([system.with_params(trajectory.params).parameter_values for trajectory in trajectories]).reshape(N_PARAMS, N_ICS, -1)
    assert (sets == sets[:, :1]).all(), "trajectories of one parameter set stand together"
    sets = sets[:, 0]
    nonzero = system.parameter_values != 0
    relative = sets[:, nonzero] / system.parameter_values[nonzero] - 1
    assert (relative != 0).all() and (np.abs(relative) < 6 * 0.05).all()
    assert all((a != b)[nonzero].all() for i, a in enumerate(sets) for b in sets[:i])
    ics = np.array([trajectory.ic for trajectory in trajectories])
    distances = np.abs((ics[:, None] - ics) / np.maximum(system.scale or 1, 1e-9)).max(2)[~np.eye(len(ics), dtype=bool)]
    assert distances.min() > 1e-3
    for trajectory in trajectories:
        observed = system.with_params(trajectory.params).observe(trajectory.ic, trajectory.t0)
        assert np.allclose(observed, trajectory.target[:, 0], rtol=1e-6, atol=1e-6), "the initial state is that of the first stored point"


@pytest.mark.parametrize("name", ["Lorenz"])
def test_the_lorenz_system_stays_in_its_ball(trajectories):
    """x² + y² + (z - sigma - rho)² is bounded by beta² (sigma + rho)² / (4 (beta - 1)) on the attractor, for beta >= 2 and sigma >= 1
    (Leonov, Bunin and Koksch 1987, ZAMM 67, 649)."""
    for trajectory in trajectories:
        x, y, z = trajectory.target.astype(float)
        beta, rho, sigma = (trajectory.params[key] for key in ("beta", "rho", "sigma"))
        assert beta >= 2 and sigma >= 1
        assert (x**2 + y**2 + (z - sigma - rho) ** 2 <= beta**2 * (sigma + rho) ** 2 / (4 * (beta - 1)) * (1 + 1e-6)).all()
        assert (z > 0).all()


@pytest.mark.parametrize("name", ["Lorenz"])
def test_the_mirror_image_of_a_lorenz_trajectory_is_one(trajectories):
    """(x, y, z) to (-x, -y, z) is a symmetry of the equations: what starts at the mirror image stays the mirror image."""
    from chronos_dysts.integration import integrate_ensemble

    mirror = np.array([-1.0, -1.0, 1.0])
    for trajectory in trajectories:
        system = get_system("Lorenz").with_params(trajectory.params)
        again = integrate_ensemble(system, ics=(mirror * trajectory.ic)[None], length=trajectory.length, dt=trajectory.dt)
        first = 4 * round(trajectory.period / trajectory.dt)
        assert np.abs(mirror[:, None] * again.states[0] - trajectory.target)[:, :first].max() < 1e-3


def test_the_pictures(tmp_path):
    """As a script: what it has drawn, in words and as a file; a wrong name gets the nearest right one."""
    run = lambda *names: subprocess.run([sys.executable, TESTS / "test_dyst_data.py", *names], cwd=tmp_path, text=True, capture_output=True, timeout=120)  # noqa: E731
    done = run("Lorenz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Lorenz: data/ has none of it; trajectories were made for the picture\n")
    made = [Path(path) for path in re.findall(r"^made (.*\.png)$", done.stdout, re.M)]
    assert [path.name for path in made] == ["dyst_data_Lorenz_attractor.png", "dyst_data_Lorenz_series.png"]
    assert all(path.parent == TESTS / "figures" and path.stat().st_size > 10_000 for path in made)
    assert list(tmp_path.iterdir()) == []
    wrong = run("Lorentz")
    assert wrong.returncode == 1 and "did you mean 'Lorenz'" in wrong.stderr and "Traceback" not in wrong.stderr

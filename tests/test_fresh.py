"""Fresh trajectories: a unit is a pure function of its number; what it holds is certified, of the systems that were asked for, and never twice the same."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from chronos_dysts.attractors import DEFAULT_TESTS, EVALUATION_TESTS, validate
from chronos_dysts.fresh import UNIT, FreshTrajectories, affordable, fresh_costs
from chronos_dysts.integration import Ensemble, Outcome, integrate_ensemble
from chronos_dysts.systems import catalogue, get_system, split_systems

FLOWS = ["Lorenz", "SprottB", "Rossler"]


def bytes_of(unit): return b"".join(t.target.tobytes() + t.item_id.encode() + str(t.params).encode() for t in unit)


@pytest.fixture(scope="module")
def stream(): return FreshTrajectories(FLOWS, 128, seed=3)


def test_every_trajectory_passes_the_tests_again(stream):
    "The certificate holds, of siblings too: integrated again from its record, each trajectory is judged valid by all the default tests."
    for number in range(1):
        unit = stream.unit(number)
        assert len(unit) == UNIT and {t.system for t in unit} <= set(FLOWS)
        for name in {t.system for t in unit}:
            mine, system = [t for t in unit if t.system == name], get_system(name)
            params = np.array([system.with_params(t.params).parameter_values for t in mine])
            again = integrate_ensemble(system, params, np.stack([t.ic for t in mine]), length=128, start=mine[0].t0, dt=mine[0].dt, tolerance=1e-9)
            for state, trajectory in zip(again.observed(), mine): np.testing.assert_allclose(state[:, :50], trajectory.target[:, :50], rtol=1e-4, atol=1e-4 * np.abs(state).max())
            assert validate(again).accepted.mean() > 0.95  # a last state that differs in its last digits ends elsewhere


def test_no_two_are_the_same_not_even_without_parameters():
    stream = FreshTrajectories(["SprottB"], 64, seed=0)
    assert not get_system("SprottB").params
    targets = [t.target for number in range(3) for t in stream.unit(number)]
    assert len({t.tobytes() for t in targets}) == 3 * UNIT
    flat = np.stack([t.ravel() for t in targets])
    gaps = np.sort(np.linalg.norm(flat[:, None] - flat, axis=2) / np.linalg.norm(flat, axis=1), axis=1)[:, 1]
    assert gaps.min() > 1e-3  # and none is nearly another


def test_what_the_tests_reject_is_not_handed_out():
    calls = []
    def only_some(ensemble: Ensemble, candidates):
        calls.append(len(candidates))
        return candidates & (ensemble.states[:, 0, 0] > 0)
    stream = FreshTrajectories(["Lorenz"], 64, seed=0, tests={"diverged": DEFAULT_TESTS["diverged"], "left": only_some})
    assert all(t.target[0, 0] > 0 for t in stream.unit(0)) and len(calls) > 1
    hopeless = FreshTrajectories(["Lorenz"], 64, seed=0, tests={"none": lambda ensemble, candidates: candidates & False})
    with pytest.raises(ValueError, match="none of Lorenz gives trajectories that pass the tests"): hopeless.unit(0)


def test_a_system_that_brings_nothing_is_left_for_another():
    damped = replace(get_system("Lorenz"), name="Damped", parameters=tuple((k, 0.5 if k == "rho" else v) for k, v in get_system("Lorenz").parameters), families=("Damped",))
    gone = replace(get_system("Rossler"), name="Gone", equations=("x*x + 1", "y", "z"), families=("Gone",))
    stream = FreshTrajectories([damped, gone, "Halvorsen"], 64, seed=0)
    assert {t.system for number in range(3) for t in stream.unit(number)} == {"Halvorsen"}


def test_systems_as_values_with_delays_and_drives():
    "Any System will do: one with a delay, one with a phase, one of many variables, one that is in no catalogue."
    own = replace(get_system("Lorenz"), name="Mine", observables=("x + y", "z"))
    for system in (get_system("MackeyGlass"), get_system("Duffing"), get_system("Lorenz96"), own):
        unit = FreshTrajectories([system], 64, seed=1, tests=EVALUATION_TESTS).unit(0)  # it takes long to look ahead with a delay
        assert {t.system for t in unit} == {system.name} and all(t.target.shape == (system.observed_dim, 64) and np.isfinite(t.target).all() for t in unit)


def test_siblings_share_parameters_and_nothing_else():
    unit = FreshTrajectories(["Lorenz"], 200, seed=0).unit(0)
    sets: dict = {}
    for t in unit: sets.setdefault(str(t.params), []).append(t.target)
    assert max(map(len, sets.values())) == 4 and len(sets) >= UNIT / 4
    for several in sets.values():
        for i, a in enumerate(several):
            for b in several[:i]: assert np.abs(a[0] - b[0]).mean() > 0.1 * a[0].std()
    alone = FreshTrajectories(["Lorenz"], 64, seed=0, siblings=1, tests=EVALUATION_TESTS).unit(0)
    assert len({str(t.params) for t in alone}) == UNIT


def test_uniform_over_systems_or_families():
    systems = ["Lorenz", "Chen", "LorenzBounded", "Rossler"]
    shares = {uniform: FreshTrajectories(systems, 64, uniform=uniform).recipe.shares for uniform in ("systems", "families")}
    assert shares["systems"] == (0.25,) * 4
    np.testing.assert_allclose(shares["families"], [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_no_family_of_a_test_set_gets_in():
    split = split_systems()
    FreshTrajectories(split.train, 64, held_out=[*split.test, *split.validation])
    with pytest.raises(ValueError, match="are of one family"): FreshTrajectories([*split.train, split.test[0]], 64, held_out=split.test)
    skew = replace(get_system("Halvorsen"), name="Halvorsen driven by Lorenz", families=("Halvorsen", "Lorenz"))
    with pytest.raises(ValueError, match=r"Halvorsen driven by Lorenz and the held-out system Chen are of one family \(Lorenz\)"): FreshTrajectories([skew], 64, held_out=[get_system("Chen")])


def test_workers_make_the_same_units_and_one_that_is_killed_is_replaced(stream):
    code = textwrap.dedent(f"""
        import hashlib, os, signal
        from chronos_dysts.fresh import FreshTrajectories
        def bytes_of(unit): return b"".join(t.target.tobytes() + t.item_id.encode() + str(t.params).encode() for t in unit)
        stream = FreshTrajectories({FLOWS!r}, 128, seed=3, workers=1)
        stream.request([1, 0])
        print(hashlib.sha256(bytes_of(stream.unit(0))).hexdigest())
        stream.request([2, 3])
        for pid in stream._pool._processes: os.kill(pid, signal.SIGKILL)
        print(hashlib.sha256(bytes_of(stream.unit(2))).hexdigest())
        stream.request([3])
        print(hashlib.sha256(bytes_of(stream.unit(3))).hexdigest())
        stream.close()""")
    import hashlib

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.stdout.split() == [hashlib.sha256(bytes_of(stream.unit(k))).hexdigest() for k in (0, 2, 3)], done.stderr[-2000:]


def test_the_table_of_costs_knows_every_flow():
    costs = fresh_costs()
    assert set(costs) == set(catalogue())
    assert all(cost > 0.1 for cost in costs.values())
    assert len(affordable(catalogue())) > 80 and "InteriorSquirmer" not in affordable(catalogue())
    assert affordable([get_system("Lorenz"), replace(get_system("Lorenz"), name="New"), get_system("InteriorSquirmer")]) == [get_system("Lorenz"), replace(get_system("Lorenz"), name="New")]


@pytest.mark.parametrize("wrong, message", [
    (dict(systems=[]), "no systems"), (dict(systems=["Lorens"]), "did you mean 'Lorenz'"), (dict(length=1), "length"), (dict(seed=-1), "seed"), (dict(perturbation=-0.1), "perturbation"), (dict(transient=np.inf), "transient"),
    (dict(points_per_period=0), "points_per_period"), (dict(workers=1, tests={"mine": lambda ensemble, candidates: candidates}), "cannot travel to 1 workers"), (dict(uniform="flows"), "uniform"), (dict(workers=-1), "workers"), (dict(siblings=0), "siblings"), (dict(held_out=["Lorenz"]), "one family")])
def test_what_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message): FreshTrajectories(**(dict(systems=FLOWS, length=64) | wrong))


def test_units_are_numbered_from_zero(stream):
    with pytest.raises(ValueError, match="numbered from 0"): stream.unit(-1)
    assert Outcome.OK == 0

"""Tests of attractors: against loops and statsmodels, on regimes with a known answer, and a verdict that does not depend on the company"""

import warnings

import numpy as np
import pytest
from statsmodels.tsa.stattools import adfuller, kpss

from chronos_dysts import attractors
from chronos_dysts.attractors import (DEFAULT_TESTS, EVALUATION_TESTS, FULL_TESTS, TESTS, adf_statistic, battery, distribution_change, first_component_share,
                                      interpolation_error, is_chaotic, kpss_statistic, line_share, look_ahead, recurrence_distance, validate, zero_one)
from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.systems import System, get_system, perturb_parameters

rng = np.random.default_rng(0)
SIGNALS = rng.normal(size=(2, 3, 400)).cumsum(-1) + rng.normal(size=(2, 3, 400))
TAU = 2 * np.pi


@pytest.fixture(scope="module")
def perturbed():
    """Halvorsen at 150 perturbed parameter sets: all fates occur"""
    system, rng = get_system("Halvorsen"), np.random.default_rng(5)
    return integrate_ensemble(system, perturb_parameters(system, rng, 0.2, 150), sample_initial_conditions(system, rng, 150), transient=20)


def loop_recurrence(x, period):
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    shifts = range(max(2, int(period / 4)), x.shape[-1] - int(np.ceil(period)))
    d = np.array([np.square(x[:, s:] - x[:, :-s]).sum(0).mean() / (2 * len(x)) for s in shifts])
    low = [d[k] - (d[k + 1] - d[k - 1])**2 / (8 * max(d[k - 1] - 2 * d[k] + d[k + 1], 1e-300)) for k in range(1, len(d) - 1) if d[k] <= min(d[k - 1], d[k + 1])]
    return min(low, default=np.inf)


def loop_zero_one(x, frequencies=20):
    x, found = (x - x.mean()) / x.std(), []
    n, cut = len(x), len(x) // 10
    for c in np.pi / 5 + 3 * np.pi / 5 * (np.arange(frequencies) + 0.5) / frequencies:
        p = np.cumsum(x * np.cos(c * np.arange(1, n + 1)))
        q = np.cumsum(x * np.sin(c * np.arange(1, n + 1)))
        m = [np.mean((p[k:k + n - cut] - p[:n - cut])**2 + (q[k:k + n - cut] - q[:n - cut])**2) for k in range(1, cut + 1)]
        found.append(np.corrcoef(np.arange(1, cut + 1), m)[0, 1])
    return np.median(found)


def test_statistics_equal_loops():
    for signal, distance in zip(SIGNALS, recurrence_distance(SIGNALS, 30)):
        assert distance == pytest.approx(loop_recurrence(signal, 30), rel=1e-9)
    for signal, k in zip(SIGNALS, zero_one(SIGNALS)):
        assert k == pytest.approx(max(loop_zero_one(row) for row in signal), abs=1e-9)


def test_statistics_equal_statsmodels():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(adf_statistic(SIGNALS, 13), [[adfuller(row, maxlag=13, autolag=None)[0] for row in signal] for signal in SIGNALS], rtol=1e-6)
        np.testing.assert_allclose(kpss_statistic(SIGNALS, 13), [[kpss(row, nlags=13)[0] for row in signal] for signal in SIGNALS], rtol=1e-9)


@pytest.mark.parametrize("statistic", [lambda x: recurrence_distance(x, 30), zero_one, interpolation_error, first_component_share, line_share, distribution_change,
                                       lambda x: adf_statistic(x, 5), lambda x: kpss_statistic(x, 5)])
def test_statistics_do_not_depend_on_units(statistic):
    scaled = SIGNALS * np.array([1e-6, 1.0, 1e7])[:, None] + np.array([5.0, 0.0, -1e8])[:, None]
    np.testing.assert_allclose(statistic(scaled), statistic(SIGNALS), rtol=1e-4, atol=1e-7)


def test_known_values_of_the_statistics():
    t = np.arange(4000)
    cycle, torus = np.sin(TAU * t / 41.3), np.sin(TAU * t / 41.3) + np.sin(TAU * t / (41.3 * np.sqrt(2)))
    noise = np.random.default_rng(1).normal(size=4000)
    assert recurrence_distance(cycle[None], 41.3) < 1e-5 < 1e-3 < recurrence_distance(torus[None, :1000], 41.3) and recurrence_distance(noise[None], 41.3) > 0.7
    assert recurrence_distance(cycle[None, :60], 41.3) == np.inf  # not even two rounds
    assert zero_one(torus[None, ::8]) < 0.1 and zero_one(noise[None]) > 0.9
    assert line_share(torus[None]) > 0.999 and line_share(noise[None]) < 0.2
    assert distribution_change(np.exp(-t / 500)[None] * cycle[None]) > 0.3 and distribution_change(np.stack([t, t])) == 1 and distribution_change(cycle[None]) < 0.03
    assert first_component_share(np.stack([cycle, -3 * cycle, cycle + 1])) == pytest.approx(1) and first_component_share(np.stack([cycle, noise])) < 0.6
    assert interpolation_error(cycle[None]) < 1e-3 and interpolation_error(noise[None]) > 1


LORENZ = {"beta": 8 / 3}
REGIMES = [  # not among the labelled cases
    ("Lorenz", LORENZ | {"rho": 3.0}, False), ("Lorenz", LORENZ | {"rho": 15.0}, False), ("Lorenz", LORENZ | {"rho": 40.0}, True), ("Lorenz", LORENZ | {"rho": 155.0}, False),
    ("Lorenz", LORENZ | {"rho": 100.2}, False), ("Lorenz", LORENZ | {"rho": 190.0}, True), ("Rossler", {"a": 0.2, "b": 0.2, "c": 2.3}, False),
    ("Rossler", {"a": 0.2, "b": 0.2, "c": 3.0}, False), ("Rossler", {"a": 0.1, "b": 0.1, "c": 4.0}, False), ("Rossler", {"a": 0.1, "b": 0.1, "c": 6.0}, False),
    ("Rossler", {"a": 0.1, "b": 0.1, "c": 14.0}, True), ("Rossler", {"a": 0.1, "b": 0.1, "c": 18.0}, True)]


@pytest.mark.parametrize("name, params, chaotic", REGIMES)
def test_known_regimes(name, params, chaotic):
    system = get_system(name).with_params(params)
    ensemble = integrate_ensemble(system, ics=np.array(system.ic) * [[1.0], [1.01], [1.02]], transient=60)
    assert (validate(ensemble).accepted == chaotic).all(), validate(ensemble).reason


def test_regular_motion_of_all_kinds():
    """Each at several speeds; the `period` that the system names is right within a factor of two only."""
    def flow(equations, ic, variables="x y u v"):
        names = tuple(variables.split())[:len(ic)]
        return System("Regular", names, tuple(equations), (("w", 1.0),), tuple(map(float, ic)), TAU * 1.4, scale=(1.0,) * len(ic))
    kinds = {"torus": flow(("y", "-x", "v", "-w**2*u"), (1, 0, 1, 0)), "damped": flow(("y", "-x - 0.003*w*y"), (1, 0)), "cycle": flow(("y", "w*(1 - x**2)*y - x"), (2, 0)),
             "growing": flow(("0.01*w*x - y", "x + 0.01*w*y"), (1, 0)), "coupled cycles": flow(("x*(1 - x**2 - y**2) - y + 0.1*u", "y*(1 - x**2 - y**2) + x",
                                                                                              "u*(1 - u**2 - v**2) - w*v", "v*(1 - u**2 - v**2) + w*u"), (1, 0, 1, 0))}
    for kind, system in kinds.items():
        params = np.array([[0.5], [0.77], [np.sqrt(2)], [1.7320508], [2.3]])
        verdict = validate(integrate_ensemble(system, params, transient=20))
        assert not verdict.accepted.any(), (kind, verdict.reason)


def test_transient_chaos_of_lorenz_is_found_out():
    """At rho = 22 all trajectories end in a fixed point, after a hundred periods or so (Yorke and Yorke 1979)."""
    system, rng = get_system("Lorenz").with_params({"beta": 8 / 3, "rho": 22.0}), np.random.default_rng(3)
    ics = np.array([0.0, 0.0, 21.0]) + rng.normal(size=(64, 3)) * [8.0, 8.0, 6.0]
    ensemble = integrate_ensemble(system, ics=ics, transient=0.0)
    verdict = validate(ensemble)
    assert (validate(ensemble, ["diverged", "settled", "periodic"]).accepted).mean() > 0.3  # still chaotic, to the eye
    assert verdict.accepted.mean() <= 0.05, verdict.counts()


def test_a_verdict_does_not_depend_on_the_company(perturbed):
    whole = validate(perturbed)
    assert len(whole.counts()) >= 4
    for rows in (np.arange(0, 150, 7), np.array([11, 3]), np.arange(150)[::-1]):
        assert validate(perturbed.take(rows)).reason.tolist() == whole.reason[rows].tolist()


def test_large_ensembles_are_judged_in_parts(perturbed, monkeypatch):
    whole = validate(perturbed, keep_rejected=True)
    monkeypatch.setattr(attractors, "_AT_ONCE", 40)
    parts = validate(perturbed, keep_rejected=True)
    assert parts.reason.tolist() == whole.reason.tolist() and parts.judged == whole.judged
    assert {name: sets.tolist() for name, sets in parts.rejected_params.items()} == {name: sets.tolist() for name, sets in whole.rejected_params.items()}


def test_the_look_ahead_is_integrated_once(perturbed, monkeypatch):
    ensemble, calls, original = perturbed.take(slice(0, 12)), [], attractors.integrate_ensemble
    monkeypatch.setattr(attractors, "integrate_ensemble", lambda *args, **kwargs: calls.append(len(args[1])) or original(*args, **kwargs))
    everyone = ensemble.ok
    ahead = look_ahead(ensemble, everyone)
    some = everyone & (np.arange(12) % 2 == 0)
    np.testing.assert_array_equal(look_ahead(ensemble, some).states, ahead.states[some[everyone]])
    validate(ensemble, FULL_TESTS)  # finds that it has been looked ahead for
    assert len(calls) == 1


def test_reports_and_what_is_kept(perturbed):
    verdict = validate(perturbed, keep_rejected=True)
    table = verdict.table()
    assert table["judged"].tolist() == [150 - table["rejected"][:k].sum() for k in range(len(table))] and list(table.index) == list(DEFAULT_TESTS)
    assert sum(map(len, verdict.rejected_params.values())) + verdict.accepted.sum() == 150
    for reason, sets in verdict.rejected_params.items():
        np.testing.assert_array_equal(sets, perturbed.params[verdict.reason == reason])
    assert not validate(perturbed).rejected_params


def test_any_list_of_tests(perturbed):
    def odd(ensemble, candidates):
        return candidates & (np.arange(len(candidates)) % 2 == 1)
    verdict = validate(perturbed, ["diverged", odd, is_chaotic])
    assert list(verdict.judged) == ["diverged", "odd", "is_chaotic"] and not verdict.accepted[::2].any() and verdict.accepted.any()
    assert battery(EVALUATION_TESTS) == dict(EVALUATION_TESTS) and set(DEFAULT_TESTS) < set(FULL_TESTS) == set(TESTS)
    for tests, message in ((["chaotik"], "unknown test 'chaotik'"), ([], "at least one test"), ("diverged", r"\['diverged'\]")):
        with pytest.raises(ValueError, match=message):
            validate(perturbed, tests)


def test_delay_systems_and_driven_flows_are_judged():
    ikeda = get_system("IkedaDelay")
    ensemble = integrate_ensemble(ikeda, ics=[[0.1], [0.5]], transient=20, length=400, points_per_period=40)
    assert validate(ensemble, ["diverged", "settled", "periodic", "transient"]).accepted.all()
    fixed = integrate_ensemble(get_system("MackeyGlass").with_params({"n": 4.0}), transient=100, length=400)
    assert validate(fixed, ["diverged", "settled", "periodic", "transient"]).reason[0] in ("settled", "periodic")
    assert not validate(integrate_ensemble(get_system("Torus"), transient=20)).accepted.any()


def test_short_and_odd_ensembles_are_no_error():
    for length in (1, 2, 8, 40):
        verdict = validate(integrate_ensemble(get_system("Rossler"), length=length, transient=20))
        assert verdict.reason[0] in ("", "settled") and (length > 8) <= verdict.accepted[0]
    empty = integrate_ensemble(get_system("SprottQ"), np.array([[3.1, 60.0]]), length=64)
    assert validate(empty, FULL_TESTS).reason[0] == "diverged"


def test_looking_ahead_for_nobody_is_refused(perturbed):
    with pytest.raises(ValueError, match="no trajectory of Halvorsen to look ahead for"):
        look_ahead(perturbed, np.zeros(150, bool))

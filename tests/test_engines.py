"""The engines themselves: sliding, order of the method of steps, the cache of compiled flows."""

import numpy as np
import pytest

from chronos_dysts.engines import delay, runge_kutta, taylor
from chronos_dysts.engines.common import Outcome
from chronos_dysts.integration import has_heyoka, integrate_ensemble
from chronos_dysts.systems import System, delay_systems, get_system, perturb_parameters

heyoka = pytest.mark.skipif(not has_heyoka(), reason="heyoka has no wheel for this platform")
ENGINES = [pytest.param("heyoka", marks=heyoka), "torch"]


def friction(x0, strength=1.0, push=0.4):
    """A block on the ground under a periodic force: it slides along v = 0 while the force is less than the friction."""
    return System("Friction", ("v", "t_"), (f"{push}*sin(t_) - mu*sign(v)", "1.0"), (("mu", strength),), ic=(x0, 0.0), period=2 * np.pi, unbounded=("t_",))


@pytest.mark.parametrize("engine", ENGINES)
def test_what_dry_friction_holds_stands_still(engine):
    """v' = 0.4 sin t - sign v from v = 1: it stops at 1 + 0.4 (1 - cos t) = t, and never moves again."""
    ensemble = integrate_ensemble(friction(1.0), length=200, engine=engine)
    t, v = ensemble.times, ensemble.states[0, 0]
    moving = 1 + 0.4 * (1 - np.cos(t)) - t
    stops = np.argmax(moving < 0)
    assert ensemble.ok[0] and 0 < stops < 150
    np.testing.assert_allclose(v[:stops], moving[:stops], atol=1e-10)
    np.testing.assert_allclose(v[stops:], 0, atol=1e-10)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_dry_friction_cannot_hold_breaks_away(engine):
    """v' = 2 sin t - sign v from rest at t = 0: it breaks away where 2 sin t = 1, and v = 2 (cos(pi/6) - cos t) - (t - pi/6)."""
    ensemble = integrate_ensemble(friction(0.0, push=2.0), length=41, engine=engine)
    t, v = ensemble.times, ensemble.states[0, 0]
    exact = np.where(t < np.pi / 6, 0.0, 2 * (np.cos(np.pi / 6) - np.cos(t)) - (t - np.pi / 6))
    assert ensemble.ok[0]
    np.testing.assert_allclose(v, exact, atol=1e-10)


@pytest.mark.parametrize("engine, length", [pytest.param("heyoka", 401, marks=heyoka), ("torch", 201)])
def test_sixty_four_stick_slip_oscillators(engine, length):
    system = get_system("StickSlipOscillator")
    sets = perturb_parameters(system, np.random.default_rng(0), 0.05, 64)
    sets[:, list(system.parameter_names).index("t0")] *= 8
    ensemble = integrate_ensemble(system, sets, length=length, engine=engine)
    assert ensemble.ok.all()
    belt = sets[:, list(system.parameter_names).index("vs"), None]
    assert (np.abs(ensemble.states[:, 1] - belt) < 1e-9).mean() > 0.02
    alone = integrate_ensemble(system, sets[11], length=length, engine=engine)
    np.testing.assert_array_equal(alone.states[0], ensemble.states[11])


@heyoka
def test_one_that_stands_does_not_stop_its_neighbours():
    """One lane uses up its steps; the seven others of its register arrive."""
    system = System("Fast", ("x", "y"), ("-w*y", "w*x"), (("w", 1.0),), ic=(1.0, 0.0), period=6.0)
    p = np.array([[1.0, 3e4, 2.0]])
    x = np.repeat(np.array(system.ic)[:, None], 3, 1)
    for times in (np.linspace(0, 12, 50), np.linspace(6, 12, 50)):
        states, outcome = taylor.integrate(system, x, p, 0.0, times, 1e-12, 2000)
        assert list(outcome) == [Outcome.OK, Outcome.STEP_BUDGET, Outcome.OK]
        np.testing.assert_allclose(states[[0, 2], 0], np.cos(p[0, [0, 2], None] * times), atol=1e-9)


@heyoka
def test_the_cache_of_compiled_flows_is_bounded(monkeypatch):
    monkeypatch.setattr(taylor, "CACHE_SIZE", 2)
    flows = [System(f"F{i}", ("x",), (f"-{i}*x",), ic=(1.0,)) for i in (1, 2, 3)]
    first = [taylor._heyoka_integrator(flow, 1e-10) for flow in flows[:2]]
    assert taylor._heyoka_integrator(flows[0], 1e-10) is first[0]  # used: the other is now the oldest
    taylor._heyoka_integrator(flows[2], 1e-10)
    assert taylor._heyoka_integrator(flows[0], 1e-10) is first[0]
    assert taylor._heyoka_integrator(flows[1], 1e-10) is not first[1]
    assert len(taylor._compiled.integrators) <= 2


@pytest.mark.parametrize("name", delay_systems())
def test_the_method_of_steps_has_order_four(name):
    system = get_system(name)
    p, past = system.parameter_values[:, None], np.array(system.ic)[None, :, None]
    wanted = (np.linspace(0, 5.9, 50) * system.params["tau"])[None]
    coarse, middle, fine = (delay._march(system, past, p, 0.0, wanted, steps)[0] for steps in (128, 256, 512))
    ratio = np.nanmax(np.abs(coarse - middle)) / np.nanmax(np.abs(middle - fine))
    assert 8 < ratio < 32


def test_two_delays_against_a_solution():
    """x' = -(a/2)(x(t - 1) + x(t - 5)) with a = pi/2 keeps cos(pi t / 2)."""
    system = System("Two", ("x",), ("-a*(x1 + x5)/2",), (("a", np.pi / 2), ("d1", 1.0), ("d5", 5.0)), ic=(1.0,), period=4.0,
                    delays=(("x1", "x", "d1"), ("x5", "x", "d5")))
    past = np.cos(np.pi / 2 * np.linspace(-5, 0, 641))
    ensemble = integrate_ensemble(system, ics=past[None, None], length=200, points_per_period=20)
    np.testing.assert_allclose(ensemble.states[0, 0], np.cos(np.pi / 2 * ensemble.times), atol=1e-6)


def test_a_delayed_blow_up_is_an_outcome():
    system = System("Grows", ("x",), ("r*xt",), (("r", 1.0), ("tau", 0.5)), ic=(1.0,), period=1.0, delays=(("xt", "x", "tau"),))
    ensemble = integrate_ensemble(system, np.array([[-1.0, 0.5], [5.0, 0.5]]), length=2000)
    assert list(ensemble.outcome) == [Outcome.OK, Outcome.DIVERGED] and np.isnan(ensemble.states[1]).all()


def test_a_batch_wider_than_a_chunk(monkeypatch):
    system = get_system("Lorenz")
    sets = perturb_parameters(system, np.random.default_rng(0), 0.05, 200)
    whole = integrate_ensemble(system, sets, length=40, engine="torch").states
    monkeypatch.setattr(runge_kutta, "_CHUNK_BYTES", {"cpu": 1, "other": 1})  # 64 lanes at a time
    np.testing.assert_array_equal(integrate_ensemble(system, sets, length=40, engine="torch").states, whole)

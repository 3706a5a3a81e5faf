"""Integration: against scipy on every flow, independence of the batch, outcomes."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from chronos_dysts import integration
from chronos_dysts.engines import runge_kutta, taylor
from chronos_dysts.integration import Outcome, has_heyoka, integrate_ensemble, sample_initial_conditions
from chronos_dysts.systems import System, catalogue, get_system, perturb_parameters, stream_key

heyoka = pytest.mark.skipif(not has_heyoka(), reason="heyoka has no wheel for this platform")
SMOOTH = ("Lorenz", "Aizawa", "Duffing", "HyperLorenz", "DoublePendulum", "OscillatingFlow", "Torus", "CellCycle", "BeerRNN", "YuWang")
KINKED = ("Chua", "MultiChua", "Colpitts", "AnishchenkoAstakhov", "CellularNeuralNetwork", "FluidTrampoline", "SprottMore",
          "SanUmSrisuchinwong", "BelousovZhabotinsky", "MacArthur")
SHORT = {"LiuChen": 0.5, "InteriorSquirmer": 0.2}  # they amplify 1e-12 to 1e-3 within a period


def deviation(name, engine, tolerance=1e-7):
    """Largest error over a period against scipy at 1e-13, in standard deviations, at perturbed parameters."""
    system = get_system(name)
    system = system.with_params(perturb_parameters(system, np.random.default_rng(stream_key(name)), 0.02)[0])
    points = int(100 * SHORT.get(name, 1.0)) + 1
    ours = integrate_ensemble(system, length=points, engine=engine)
    assert ours.ok.all()
    field, p = system.field(), system.parameter_values
    exact = solve_ivp(lambda t, x: field(x, t, p), (0, ours.times[-1]), system.ic, method="DOP853", rtol=1e-13,
                      atol=1e-13 * np.array(system.scale or np.ones(system.dim)), t_eval=ours.times, max_step=system.period / 200).y
    return (np.abs(ours.states[0] - exact) / (exact.std(1, keepdims=True) + 1e-12)).max()


@heyoka
@pytest.mark.parametrize("name", SMOOTH + KINKED)
def test_taylor_steps_agree_with_scipy(name):
    assert deviation(name, "auto") < 1e-6


@pytest.mark.parametrize("name", [*SMOOTH[:7], *KINKED[:8]])
def test_the_torch_engine_agrees_with_scipy(name):
    assert deviation(name, "torch") < 1e-5


@heyoka
@pytest.mark.parametrize("name", [name for name in catalogue() if name not in {*SMOOTH, *KINKED, "StickSlipOscillator"}])
def test_every_other_flow_agrees_with_scipy(name):
    assert deviation(name, "auto") < 1e-5


@pytest.mark.parametrize("engine", [pytest.param("heyoka", marks=heyoka), "torch"])
@pytest.mark.parametrize("name", ["Lorenz", "Chua", "SprottQ", "Duffing"])
def test_a_trajectory_does_not_depend_on_its_company(name, engine):
    system, rng = get_system(name), np.random.default_rng(0)
    sets = perturb_parameters(system, rng, 0.2, 21)
    together = integrate_ensemble(system, sets, length=300, engine=engine)
    order = rng.permutation(21)
    shuffled = integrate_ensemble(system, sets[order], length=300, engine=engine)
    np.testing.assert_array_equal(together.outcome[order], shuffled.outcome)
    np.testing.assert_array_equal(together.states[order], shuffled.states)
    np.testing.assert_array_equal(together.states[4], integrate_ensemble(system, sets[4], length=300, engine=engine).states[0])


@pytest.mark.parametrize("engine", [pytest.param("heyoka", marks=heyoka), "torch"])
@pytest.mark.parametrize("name", ["Lorenz", "Torus"])
def test_two_halves_make_a_whole(name, engine):
    system = get_system(name)
    whole = integrate_ensemble(system, length=101, engine=engine)
    middle = whole.states[:, :, 50]
    second = integrate_ensemble(system, ics=middle, length=51, start=float(whole.times[50]), engine=engine)
    np.testing.assert_allclose(second.states[0], whole.states[0, :, 50:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("engine", [pytest.param("heyoka", marks=heyoka), "torch"])
def test_a_transient_is_time_that_is_not_stored(engine):
    system = get_system("Rossler")
    whole = integrate_ensemble(system, length=151, engine=engine)
    cut = integrate_ensemble(system, length=51, transient=1.0, engine=engine)
    np.testing.assert_allclose(cut.states[0], whole.states[0, :, 100:], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(cut.times, whole.times[100:])


@pytest.mark.parametrize("engine", [pytest.param("heyoka", marks=heyoka), "torch"])
def test_finite_time_blow_up_is_an_outcome(engine):
    blow_up = System("BlowUp", ("x",), ("rate*x**2",), (("rate", 1.0),), ic=(1.0,), period=1.0)
    ensemble = integrate_ensemble(blow_up, np.array([[1.0], [-1.0], [0.2]]), length=200, engine=engine)
    assert list(ensemble.outcome) == [Outcome.DIVERGED, Outcome.OK, Outcome.OK]
    assert np.isnan(ensemble.states[0]).all()
    for lane, rate in ((1, -1.0), (2, 0.2)):  # x = 1 / (1 - rate t)
        np.testing.assert_allclose(ensemble.states[lane, 0], 1 / (1 - rate * ensemble.times), rtol=1e-9)


def test_an_exhausted_budget_is_an_outcome():
    system = get_system("Lorenz")
    p = np.repeat(system.parameter_values[:, None], 2, 1)
    x = np.repeat(np.array(system.ic)[:, None], 2, 1)
    times = np.linspace(0, 50 * system.period, 100)
    for integrate in [runge_kutta.integrate] + [taylor.integrate] * has_heyoka():
        assert list(integrate(system, x, p, 0.0, times, 1e-12, 100)[1]) == [Outcome.STEP_BUDGET] * 2


def test_without_heyoka_it_is_said_once(monkeypatch):
    monkeypatch.setattr(integration, "has_heyoka", lambda: False)
    integration._warn_once_about_heyoka.cache_clear()
    with pytest.warns(UserWarning, match="heyoka is not installed"):
        first = integrate_ensemble(get_system("Lorenz"), length=50)
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = integrate_ensemble(get_system("Lorenz"), length=50)
    np.testing.assert_array_equal(first.states, second.states)
    with pytest.raises(ValueError, match="pip install heyoka"):
        integrate_ensemble(get_system("Lorenz"), engine="heyoka")


@heyoka
def test_a_power_of_zero_is_zero():
    """The Taylor series of u**3 divides by u."""
    cube = System("Cube", ("x", "y"), ("1 + 0*x", "x**3 + x**5"), ic=(0.0, 0.0), period=1.0)
    ensemble = integrate_ensemble(cube, length=11, points_per_period=10)
    np.testing.assert_allclose(ensemble.states[0, 1], ensemble.times**4 / 4 + ensemble.times**6 / 6, rtol=1e-12)


def test_times_may_be_given_one_by_one():
    system, times = get_system("Rossler"), np.array([0.3, 0.35, 4.0])
    found = integrate_ensemble(system, times=times)
    even = integrate_ensemble(system, dt=0.05, length=81).states[0][:, [6, 7, 80]]
    np.testing.assert_allclose(found.states[0], even, rtol=1e-10)
    np.testing.assert_array_equal(found.times, times)


@pytest.mark.parametrize("wrong, says", [
    (dict(ics=[[1.0, 2.0]]), "shape"), (dict(ics=[[1.0, np.inf, 0.0]]), "not finite in row 0"), (dict(params=[[1.0, 2.0]]), "shape"),
    (dict(params=np.ones((2, 3)), ics=np.ones((3, 3))), "shape"), (dict(ics=np.ones((1, 3, 5))), "shape"), (dict(ics=np.ones((0, 3))), "shape"),
    (dict(length=0), "length"), (dict(length=2.5), "length"), (dict(transient=np.inf), "transient"), (dict(dt=0.0), "time step"),
    (dict(points_per_period=-1), "time step"), (dict(tolerance=0.5), "tolerance"), (dict(tolerance=np.nan), "tolerance"),
    (dict(times=[0.0, 1.0, 1.0]), "increasing"), (dict(times=[0.0, 1.0], dt=0.1), "not both"), (dict(times=[0.5], start=1.0), "start"),
    (dict(engine="rk4"), "engine"), (dict(engine="torch", device="abacus"), "abacus"), (dict(device="cpu"), "device"),
    (dict(start=np.nan), "start")])
def test_bad_arguments_are_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        integrate_ensemble(get_system("Lorenz"), **wrong)


def test_a_delay_system_goes_on_from_its_past():
    system = get_system("MackeyGlass")
    sets = perturb_parameters(system, np.random.default_rng(0), 0.05, 5)
    whole = integrate_ensemble(system, sets, length=600, transient=20)
    assert whole.ok.all() and whole.states.shape == (5, 1, 600)
    for ics, start, wanted in ((whole.first_states, whole.times[0], whole.states[:, :, :300]),):
        again = integrate_ensemble(system, sets, ics, length=300, start=start)
        np.testing.assert_allclose(again.states, wanted, atol=1e-5)
    half = integrate_ensemble(system, sets, length=300, transient=20)
    on = integrate_ensemble(system, sets, half.last_states, length=301, start=half.times[-1])
    np.testing.assert_allclose(on.states, whole.states[:, :, 299:], atol=1e-5)
    np.testing.assert_array_equal(half.last_states[:, :, -1], half.states[:, :, -1])
    np.testing.assert_array_equal(integrate_ensemble(system, sets[3], length=600, transient=20).states[0], whole.states[3])  # alone


def test_states_of_a_delay_system_are_pasts():
    system = get_system("MackeyGlass")
    points = sample_initial_conditions(system, np.random.default_rng(0), 7)
    assert points.ndim == 3 and points.shape[:2] == (7, 1)
    ensemble = integrate_ensemble(system, ics=points, length=3)
    np.testing.assert_allclose(ensemble.states[:, 0, 0], points[:, 0, -1])
    with pytest.raises(ValueError, match="method of steps"):
        integrate_ensemble(system, engine="torch")
    with pytest.raises(ValueError, match="delay has to be positive"):
        integrate_ensemble(system, [[0.2, 0.1, 10.0, -1.0]])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["Lorenz", "Chua", "StickSlipOscillator", "Torus"])
def test_an_accelerator_gives_the_same_trajectories(name):
    system = get_system(name)
    sets = perturb_parameters(system, np.random.default_rng(0), 0.02, 300)
    here = integrate_ensemble(system, sets, length=101, engine="torch")
    there = integrate_ensemble(system, sets, length=101, engine="torch", device="cuda")
    np.testing.assert_array_equal(here.outcome, there.outcome)
    np.testing.assert_allclose(there.states, here.states, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in catalogue() if name not in {"MacArthur", "InteriorSquirmer"}])
def test_every_flow_agrees_with_scipy_in_torch(name):
    assert deviation(name, "torch") < (1e-3 if name in SHORT else 1e-5)


# ---- how much work a trajectory may make ----


def test_a_pole_ends_a_trajectory_at_once_and_says_so():
    """MacArthur's eighth parameter set drives a resource below zero, to a pole of its rates: a long coarse record of it took half an hour of ever smaller steps."""
    from chronos_dysts import generation

    system = get_system("MacArthur")
    config = generation.GenerationConfig("nowhere", systems=["MacArthur"], split="train", n_params=8, length=2304, points_per_period=[10, 120], tolerance=1e-9, tests=["diverged", "settled"])
    params, ics = generation._draws(system, config, range(8, 16))
    ensemble = generation._record(system, params, ics[:, 0], generation._rate(system, config, 8), config)
    wanted = Outcome.STEP_UNDERFLOW if has_heyoka() else ensemble.outcome[7]
    assert list(ensemble.outcome) == [Outcome.OK] * 7 + [wanted] and np.isnan(ensemble.states[7]).all()
    if has_heyoka():
        assert generation._reasons(ensemble, ensemble, config.tests_of("MacArthur", "train"))[7] == "a pole"


@heyoka
@pytest.mark.parametrize("name", ["Chua", "StickSlipOscillator"])
def test_the_time_of_the_last_kink_is_known(name):
    """Or kink after kink would be taken for a pole: the events are copies that heyoka made."""
    system = get_system(name)
    if name == "StickSlipOscillator":
        system = system.with_params({"t0": 8 * system.params["t0"]})
    taylor._compiled.__dict__.clear()
    ensemble = integrate_ensemble(system, length=500)
    (integrator,) = taylor._compiled.integrators.values()
    assert ensemble.ok[0] and (0 < integrator.turned.times).all() and (integrator.turned.times <= ensemble.times[-1]).all()


def test_what_heyoka_cannot_finish_has_a_second_try_of_bounded_length(monkeypatch):
    asked = []

    def stuck(system, x, p, start, times, tolerance, max_steps, *device):
        asked.append(max_steps)
        return np.full((x.shape[1], system.dim, len(times)), np.nan), np.full(x.shape[1], Outcome.STEP_BUDGET, np.int8)
    monkeypatch.setattr(integration, "has_heyoka", lambda: True)
    monkeypatch.setattr(taylor, "integrate", stuck)
    monkeypatch.setattr(runge_kutta, "integrate", stuck)
    assert integrate_ensemble(get_system("Chua"), length=2304, points_per_period=10).outcome[0] == Outcome.STEP_BUDGET
    assert asked[0] > 100_000 and asked[1] == integration._SECOND_TRY
    assert len(asked) == 2 and integrate_ensemble(get_system("Lorenz"), length=2304).outcome[0] == Outcome.STEP_BUDGET and len(asked) == 3  # a smooth flow has none


@pytest.mark.parametrize("engine", [pytest.param("heyoka", marks=heyoka), "torch"])
def test_a_budget_of_steps_is_in_steps_a_period_and_of_each_trajectory_alone(engine):
    """A circle that is run through sixty times in what is called a period."""
    system = System("Fast", ("x", "y"), ("rate*y", "-rate*x"), (("rate", 1.0),), ic=(1.0, 0.0), period=2 * np.pi)
    params = np.array([[1.0], [60.0], [2.0]])
    free = integrate_ensemble(system, params, length=20, points_per_period=10, engine=engine)
    bounded = integrate_ensemble(system, params, length=20, points_per_period=10, engine=engine, most_steps=100)
    assert free.ok.all() and free.most_steps is None and bounded.most_steps == 100 and bounded.take([0]).most_steps == 100
    assert list(bounded.outcome) == [Outcome.OK, Outcome.STEP_BUDGET, Outcome.OK]
    np.testing.assert_array_equal(bounded.states[[0, 2]], free.states[[0, 2]])
    with pytest.raises(ValueError, match="at least 64"):
        integrate_ensemble(system, most_steps=10)

"""Lyapunov exponents: known values, invariances, and what is refused"""

import numpy as np
import pytest

from chronos_dysts.integration import integrate_ensemble, sample_initial_conditions
from chronos_dysts.lyapunov import largest_lyapunov, lyapunov_spectrum
from chronos_dysts.systems import System, get_system


@pytest.mark.parametrize("name, exponent, tolerance", [("Lorenz", 0.9056, 0.03), ("SprottB", 0.210, 0.03), ("Thomas", None, None), ("Chua", None, None)])
def test_largest_exponent(name, exponent, tolerance):
    system = get_system(name).with_params({"beta": 8 / 3}) if name == "Lorenz" else get_system(name)
    starts = sample_initial_conditions(system, np.random.default_rng(1), 8)
    found = largest_lyapunov(system, ics=starts, periods=150).mean()
    if exponent is None:
        assert found * system.period > 0.1
    else:
        assert abs(found - exponent) < tolerance


def test_a_linear_flow_has_the_exponent_of_its_matrix():
    node = System("Saddle", ("x", "y"), ("0.3*x + y", "-0.5*y"), ic=(1e-3, 1.0), period=1.0, unbounded=("x",))
    assert abs(largest_lyapunov(node, periods=20, settle=20)[0] - 0.3) < 1e-3  # rounding of a difference of 1e-8 in states of 1e5


def test_who_has_separated_enough_is_followed_no_further():
    rossler = get_system("Rossler")
    sets = np.repeat(rossler.parameter_values[None], 9, 0)
    sets[:, rossler.parameter_names.index("c")] = [2.5, 3.5, 4.0, 5.7, 7.0, 9.0, 13.0, 18.0, 25.0]  # three limit cycles, then chaos
    start = integrate_ensemble(rossler, sets, length=1, transient=100).last_states
    whole = lyapunov_spectrum(rossler, sets, start, periods=60, directions=1, method="twins")
    short = lyapunov_spectrum(rossler, sets, start, periods=60, directions=1, method="twins", enough=6.0)
    measured = np.isfinite(short.rates[:, 0]).sum(1)
    np.testing.assert_array_equal(short.exponents[measured == 60], whole.exponents[measured == 60])
    assert (measured[:3] == 60).all() and (measured >= 20).all() and (measured[3:] < 60).sum() >= 4
    for k in np.flatnonzero(measured < 60):  # the same growth, up to where there is enough of it
        np.testing.assert_allclose(short.rates[k, :, :measured[k]], whole.rates[k, :, :measured[k]], rtol=1e-10)
        assert short.rates[k, 0, :measured[k]].sum() * rossler.period > 6
        assert np.isclose(short.exponents[k, 0], short.rates[k, 0, :measured[k]].mean()) and np.isnan(short.standard_errors[k, 0])


def test_where_the_field_is_zero_over_zero_each_trajectory_has_its_own_method():
    """u / (1 - exp(-u)) along x, beside a Rössler flow that drives it: those that cross u = 0 are followed by twins, the others by tangents, in any company."""
    gate = System("Gate", ("x", "y", "z", "u"), ("-y - z", "x + 0.2*y", "0.2 + z*(x - 5.7)", "x - 0.3*u + 0.2*shift - 0.2*(u + shift)/(1 - exp(-u - shift))"),
                  (("shift", 0.0),), ic=(-9.8, 0.0, 0.03, 1.0), period=5.9, scale=(8.0, 8.0, 3.0, 5.0))
    params, starts = np.array([[0.0], [60.0], [0.0]]), np.array([[-9.8, 0.0, 0.03, 1.0], [-9.8, 0.0, 0.03, 1.0], [-9.0, 1.0, 0.03, 2.0]])
    whole = lyapunov_spectrum(gate, params, starts, periods=40, directions=1)
    assert whole.method == "twins and variational"
    for row, method in enumerate(("twins", "variational", "twins")):
        alone = lyapunov_spectrum(gate, params[row], starts[row], periods=40, directions=1)
        assert alone.method == method and np.array_equal(alone.exponents[0], whole.exponents[row]) and np.array_equal(alone.rates[0], whole.rates[row])
    assert abs(whole.exponents[:, 0] - 0.0714).max() < 0.03  # that of Rössler's flow: what it drives settles
    nowhere = lyapunov_spectrum(gate, params[:2], np.array([np.full(4, np.nan), starts[1]]), periods=40, directions=1)
    assert np.isnan(nowhere.exponents[0]).all() and np.array_equal(nowhere.exponents[1], whole.exponents[1])

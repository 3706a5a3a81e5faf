"""Lyapunov exponents: known values, invariances, and what is refused"""

import numpy as np
import pytest

from chronos_dysts.integration import sample_initial_conditions
from chronos_dysts.lyapunov import largest_lyapunov
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

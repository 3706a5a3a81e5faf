"""Systems: every flow of the catalogue against dysts, files, and what is refused."""

from dataclasses import replace

import dysts.flows
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_dysts.systems import (FAMILIES, System, catalogue, get_system, perturb_parameters, split_systems, stream_key)


def dysts_flow(system: System):
    """dysts' own flow at the system's parameters; dysts reads them from two places."""
    flow = getattr(dysts.flows, system.name)()
    flow.params = {key: np.array(value) if np.ndim(value) else value for key, value in system.params.items()}
    flow.__dict__.update(flow.params)
    flow.param_list = [flow.params[key] for key in sorted(flow.params)]
    return flow


@pytest.mark.parametrize("name", catalogue())
def test_every_flow_is_that_of_dysts(name):
    system, rng = get_system(name), np.random.default_rng(stream_key(name))
    for _ in range(8):
        perturbed = system.with_params(perturb_parameters(system, rng, 0.2)[0])
        flow = dysts_flow(perturbed)
        # wide enough for both sides of every kink; where a field is not defined, both are not
        x, t = np.array(system.ic) + 1.5 * np.array(system.scale) * rng.normal(size=system.dim), rng.uniform(0, 20)
        with np.errstate(all="ignore"):
            ours, theirs = perturbed.vector_field(x, t), np.array([float(value) for value in flow.rhs(x, t)])
        known = np.isfinite(theirs)
        assert (np.isfinite(ours) == known).all()
        assert not known.any() or np.abs(ours - theirs)[known].max() <= 1e-12 * np.abs(theirs[known]).max()
        if getattr(flow, "_postprocessing", None) is not None:
            observed = np.array([float(value) for value in flow._postprocessing(*x)])
            np.testing.assert_allclose(perturbed.observe(x), observed, rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(perturbed.observe(x), x)


def test_the_kinks_of_the_catalogue():
    kinked = {name: set(get_system(name).kinks) for name in catalogue() if not get_system(name).is_smooth}
    assert kinked == {
        "AnishchenkoAstakhov": {"step"}, "BelousovZhabotinsky": {"max"}, "CellularNeuralNetwork": {"abs"}, "Chua": {"abs"},
        "Colpitts": {"step"}, "FluidTrampoline": {"abs", "step"}, "MacArthur": {"min"}, "MultiChua": {"abs"},
        "SanUmSrisuchinwong": {"abs"}, "SprottMore": {"sign"}, "StickSlipOscillator": {"sign"}}


@pytest.mark.parametrize("name", ["Lorenz", "MacArthur", "BickleyJet", "Torus", "SprottB"])
def test_a_batch_of_states_is_the_states_one_by_one(name):
    system, rng = get_system(name), np.random.default_rng(0)
    x, t = np.array(system.ic)[:, None] * (1 + 0.1 * rng.normal(size=(4, system.dim, 7))), np.linspace(0, 1, 7)
    together, observed = system.vector_field(x, t), system.observe(x, t)
    assert together.shape == x.shape and observed.shape == (4, system.observed_dim, 7)
    for i in range(4):
        for k in range(7):
            # to rounding: numpy's sine of a long array is another one than that of a short
            np.testing.assert_allclose(together[i, :, k], system.vector_field(x[i, :, k], t[k]), rtol=1e-13)
            np.testing.assert_allclose(observed[i, :, k], system.observe(x[i, :, k], t[k]), rtol=1e-13)


def test_observation_follows_the_parameters_of_each_trajectory():
    jet, rng = get_system("BickleyJet"), np.random.default_rng(0)  # its observables hold parameters
    sets, x = perturb_parameters(jet, rng, 0.1, 3), rng.normal(size=(3, 3, 5))
    together = jet.observe(x, 0.0, sets)
    for i in range(3):
        np.testing.assert_allclose(together[i], jet.with_params(sets[i]).observe(x[i]), rtol=1e-12)
    assert not np.allclose(together, jet.observe(x))


@pytest.mark.parametrize("name", catalogue())
def test_json_makes_the_same_system(name):
    system = get_system(name)
    again = System.from_json(system.to_json())
    assert again == system and hash(again) == hash(system)
    x = np.array(system.ic)
    np.testing.assert_array_equal(again.vector_field(x, 0.5), system.vector_field(x, 0.5))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "3", '{"format": "chronos-dysts system 1"}', "not json"])
def test_what_is_no_system_is_refused(text):
    with pytest.raises(ValueError, match="not the JSON of a system"):
        System.from_json(text)


@pytest.mark.parametrize("equation", [
    "__import__('os').system('true')", "x.__class__", "(lambda: 1)()", "[x for x in (1,)]", "x if x else y", "x; y", "x = 1",
    "eval('1')", "open", "f'{x}'", "x and y", "x < y", "True", "'x'", "x @ y", "x // y", "sin", "sin(x=1)", "sin(*x)", "c[0]", "",
    "exec('y')", "print(x)", "(x:=3)", "1j", "x %2"])
def test_nothing_but_arithmetic_is_accepted(equation):
    lorenz = get_system("Lorenz")
    with pytest.raises(ValueError, match="equation"):
        replace(lorenz, equations=(equation, *lorenz.equations[1:]))


EXPRESSIONS = st.recursive(
    st.sampled_from(["x", "y", "z", "sigma", "t", "2", "0.5", "1e-3"]),
    lambda inner: st.one_of(st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda e: f"({e[0]} {e[1]} {e[2]})"),
                            inner.map(lambda e: f"-{e}"), inner.map(lambda e: f"sin({e})"),
                            st.tuples(inner, inner).map(lambda e: f"min({e[0]}, {e[1]})")), max_leaves=12)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS)
def test_text_means_what_python_means(text):
    system = replace(get_system("Lorenz"), equations=(text, "y", "z"))
    x, t = np.array([0.3, -1.2, 2.5]), 0.7
    names = {"x": np.float64(x[0]), "y": np.float64(x[1]), "z": np.float64(x[2]), "sigma": np.float64(10.0), "t": np.float64(t),
             "sin": np.sin, "min": np.minimum}
    with np.errstate(all="ignore"):
        try:
            expected = eval(text, {"__builtins__": {}}, names)
        except ZeroDivisionError:  # between two literals
            return
        np.testing.assert_array_equal(system.vector_field(x, t)[0], expected)


def test_parameters_by_name_and_by_vector():
    hopfield = get_system("Hopfield")
    values = hopfield.parameter_values * 1.5
    by_vector = hopfield.with_params(values)
    assert by_vector == hopfield.with_params({name: np.array(value) * 1.5 for name, value in hopfield.params.items()})
    np.testing.assert_array_equal(by_vector.parameter_values, values)
    for change, message in (({"kk": 1.0}, "did you mean"), ({"k": 1.0}, "has shape"), ({"beta": np.nan}, "not finite"),
                            (np.zeros(3), "parameter values, got shape")):
        with pytest.raises(ValueError, match=message):
            hopfield.with_params(change)


def test_perturbation_keeps_signs_unless_told_otherwise():
    system, rng = get_system("Arneodo"), np.random.default_rng(0)
    kept = perturb_parameters(system, rng, 2.0, 2000)
    free = perturb_parameters(system, rng, 2.0, 2000, keep_sign=False)
    assert (np.sign(kept) == np.sign(system.parameter_values)).all()
    assert ((np.sign(free) != np.sign(system.parameter_values)).mean(0) > 0.2).all()
    with pytest.raises(ValueError, match="scale"):
        perturb_parameters(system, rng, -0.1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), fraction=st.floats(0, 1), count=st.integers(1, 129))
def test_no_family_is_on_both_sides(seed, fraction, count):
    names = list(np.random.default_rng(seed).permutation(catalogue())[:count])
    split = split_systems(names, test_fraction=fraction, seed=seed)
    sides = (split.train, split.validation, split.test)
    assert sorted(name for side in sides for name in side) == sorted(names)
    families = [{FAMILIES.get(name, name) for name in side} for side in sides]
    assert sum(map(len, families)) == len(set().union(*families))
    assert len(split.test) <= round(fraction * count)
    assert split == split_systems(names[::-1], test_fraction=fraction, seed=seed)


def test_near_duplicates_share_a_family():
    for group in (("Lorenz", "LorenzBounded", "LorenzCoupled", "Chen", "LuChen"), ("Rossler", "HyperRossler"),
                  ("SprottI", "SprottJ", "SprottL", "SprottN", "SprottR"), ("Arneodo", "Coullet")):
        assert len({get_system(name).families for name in group}) == 1
    assert all(get_system(FAMILIES[name]).families == (FAMILIES[name],) for name in FAMILIES)

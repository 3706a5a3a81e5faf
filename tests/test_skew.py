"""Skew products: what has to hold for any pair, coupling and seed; pairs in data sets."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from rich.console import Console

from chronos_dysts.engines.common import guard_radii, longest_step
from chronos_dysts.generation import GenerationConfig, SkewConfig, generate
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.lyapunov import jacobian, lyapunov_spectrum
from chronos_dysts.skew import KINDS, NORMALISATIONS, Coupling, check_pair, draw_pairs, extent, is_autonomous, skew_product
from chronos_dysts.store import open_store, read_manifest, verify
from chronos_dysts.systems import System, bounded_parameters, catalogue, get_system, perturb_parameters

QUIET = Console(quiet=True)
ROOT = Path(__file__).resolve().parent.parent
NAMES = ["Lorenz", "Rossler", "Thomas", "Chen", "Duffing", "HyperRossler", "DoublePendulum", "ExcitableCell", "Chua", "Aizawa", "SwingingAtwood"]


def pair(names, kind, **options):
    a, b = map(get_system, names)
    try:
        return a, b, skew_product(a, b, Coupling(kind, **options), seed=5)
    except ValueError as error:
        assert "grow" in str(error)  # a phase has no place that could be pulled
        pytest.skip(str(error))


@settings(max_examples=60, deadline=None)
@given(names=st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), kind=st.sampled_from(KINDS), normalisation=st.sampled_from(NORMALISATIONS),
       seed=st.integers(0, 1000), observe=st.booleans())
def test_zero_coupling_is_the_two_founders_and_json_keeps_the_system(names, kind, normalisation, seed, observe):
    a, b = map(get_system, names)
    coupling = Coupling(kind, 0.0, normalisation)
    try:
        check_pair(a, b, coupling)
    except ValueError:
        return
    system = skew_product(a, b, coupling, seed=seed, observe_driver=observe)
    rng = np.random.default_rng(seed)
    x = np.concatenate([np.array(s.ic)[:, None] + np.array(s.scale)[:, None] * rng.normal(size=(s.dim, 20)) for s in (a, b)])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(system.vector_field(x), np.concatenate([a.vector_field(x[:a.dim]), system.params["rate"] * b.vector_field(x[a.dim:])]))
        seen = b.observe(x[a.dim:])
        np.testing.assert_array_equal(system.observe(x), np.concatenate([a.observe(x[:a.dim]), seen]) if observe else seen)
    assert normalisation != "none" or system.params["rate"] == 1
    assert System.from_json(system.to_json()) == system and set(a.families + b.families) == set(system.families)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [("Chen", "Thomas"), ("HyperRossler", "Lorenz"), ("Duffing", "Aizawa")], ids="-".join)
def test_the_drivers_trajectory_is_that_of_the_driver_alone(names, kind):
    a, b, system = pair(names, kind, strength=0.2)
    alone = integrate_ensemble(a, length=200)
    driven = integrate_ensemble(system, times=alone.times)
    assert driven.ok[0] and np.abs((driven.states[0, :a.dim] - alone.states[0]) / np.array(a.scale)[:, None]).max() < 1e-8
    # nothing flows back: the Jacobian is block triangular, to the last entry
    assert not jacobian(system, driven.states[0][:, ::50])[:a.dim, a.dim:].any()


@pytest.mark.parametrize("normalisation,kind", [("flow", "flow"), ("amplitude", "flow"), ("flow", "state"), ("amplitude", "state")])
def test_the_units_of_a_normalisation(normalisation, kind):
    """At strength one what arrives at a coordinate has the size that the normalisation says, along the driver's trajectory."""
    a, b = get_system("Halvorsen"), get_system("Rossler")
    system = skew_product(a, b, Coupling(kind, 1.0, normalisation), seed=2)
    x = integrate_ensemble(a, length=6000, points_per_period=30, transient=20).states[0]
    y = np.repeat(np.array(b.ic)[:, None], x.shape[1], 1)
    rate = system.params["rate"]
    arrives = system.vector_field(np.concatenate([x, y]))[a.dim:] - rate * b.vector_field(y)
    size = np.sqrt(np.square(arrives).mean(1)) if kind == "flow" else arrives.std(1)
    sent, own = extent(a), extent(b)
    j = np.array(system.params["P"]).argmax(1)
    wanted = {("flow", "flow"): rate * own.flow, ("flow", "state"): rate * own.flow, ("amplitude", "flow"): own.deviation * (sent.flow / sent.deviation)[j],
              ("amplitude", "state"): own.deviation * 2 * np.pi / a.period}[normalisation, kind]
    np.testing.assert_allclose(size, wanted, rtol=0.1)
    assert np.isclose(rate, b.period / a.period)


def test_a_known_pair_synchronises_and_a_known_pair_does_not():
    lorenz = get_system("Lorenz").with_params({"sigma": 10, "rho": 60, "beta": 8 / 3})
    for variable, follows in (("x", True), ("y", True), ("z", False)):
        system = skew_product(lorenz, lorenz, Coupling("replacement", normalisation="none", links=((variable, variable),)))
        assert system.dim == 5 and "strength" not in system.params
        mine = [name for name in system.variables if name.startswith("b_")]
        largest = lyapunov_spectrum(system, periods=200, variables=mine).exponents[0, 0]
        assert (largest < -1) == follows, (variable, largest)
        if follows:  # another start of the response ends at the driver's own coordinates
            ics = np.array(system.ic)
            ics[3:] += 5.0
            states = integrate_ensemble(system, ics=ics[None], length=1, transient=60).states[0, :, 0]
            rest = [name for name in lorenz.variables if name != variable]
            drive = [states[system.variables.index(f"a_{name}")] for name in rest]
            np.testing.assert_allclose(states[3:], drive, atol=1e-8)
    strong, weak = (skew_product(lorenz, lorenz, Coupling("diffusive", strength, "none", links=(("x", "x"), ("y", "y"), ("z", "z")))) for strength in (5.0, 0.2))
    first = [lyapunov_spectrum(s, periods=100, directions=1, variables=s.variables[3:]).exponents[0, 0] for s in (strong, weak)]
    assert first[0] < 0 < first[1]  # the pull of a copy subtracts itself from the exponents: 1.4 - 5 and 1.4 - 0.2
    np.testing.assert_allclose(first[1] - first[0], 4.8, atol=0.3)


def test_another_machine_makes_the_same_trajectory_from_the_json(tmp_path):
    a, b, system = pair(("Thomas", "Lorenz"), "network")
    (tmp_path / "system.json").write_text(system.to_json())
    code = ("import sys, pathlib, numpy as np; from chronos_dysts.systems import System; from chronos_dysts.integration import integrate_ensemble; "
            "s = System.from_json(pathlib.Path(sys.argv[1]).read_text()); np.save(sys.argv[2], integrate_ensemble(s, length=300).states); assert 'dysts' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "system.json"), str(tmp_path / "states.npy")], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "states.npy"), integrate_ensemble(system, length=300).states)
    torch = integrate_ensemble(system, length=100, engine="torch", tolerance=1e-11).states
    np.testing.assert_allclose(torch, integrate_ensemble(system, length=100).states, rtol=1e-6, atol=1e-6)


def test_what_varies_and_what_does_not_in_a_chain():
    inner = skew_product(get_system("ExcitableCell"), get_system("Thomas"), "flow")
    chain = skew_product(get_system("Lorenz"), inner, "state")
    sets = perturb_parameters(chain, np.random.default_rng(0), 0.2, 50)
    for values in sets[:3]:
        params = chain.with_params(values).params
        assert params["b_a_amvo"] == params["b_a_ar"] * params["b_a_amvb"] and params["P"] == chain.params["P"] and params["b_unit_a"] == chain.params["b_unit_a"]
    free = [not any(name.split("[")[0] == fixed for fixed in chain.fixed) for name in chain.parameter_names]
    assert np.ptp(sets[:, free], 0).all() and not np.ptp(sets[:, np.logical_not(free)], 0).any() and {"strength", "b_strength"} <= set(np.array(chain.parameter_names)[free])
    assert {f"b_a_{name}" for name in bounded_parameters(get_system("ExcitableCell"))} <= bounded_parameters(chain)
    steps = [longest_step(get_system("Lorenz")), longest_step(inner) / chain.params["rate"]]
    assert np.isclose(longest_step(chain), min(steps))
    np.testing.assert_array_equal(guard_radii(chain)[3:], guard_radii(inner))


def test_a_response_that_depends_on_time_keeps_its_own_clock():
    torus = get_system("Torus")
    assert not is_autonomous(torus) and all(is_autonomous(get_system(name)) for name in catalogue() if name != "Torus")
    system = skew_product(get_system("Lorenz"), torus, Coupling("flow", 0.0))
    rate, x = system.params["rate"], np.array([*get_system("Lorenz").ic, *torus.ic])
    np.testing.assert_allclose(system.vector_field(x, 0.7)[3:], rate * torus.vector_field(x[3:], rate * 0.7), rtol=1e-14)


@pytest.mark.parametrize("arguments,message", [
    (dict(kind="flow", reach=7), "asks for 7 coordinates"), (dict(kind="replacement", strength=1.5), "from 0 to 1"), (dict(strength=np.nan), "finite"), (dict(strength="strong"), "finite number, not strong"),
    (dict(reach=0), "at least one"), (dict(links=()), "at least one"), (dict(links=(("x", "x"),), reach=1), "take the place"), (dict(normalisation="rms"), "normalisation"),
    (dict(kind="state", links=(("x", "x"), ("y", "x"))), "two links"), (dict(kind="replacement", reach=3), "leaves nothing")])
def test_bad_couplings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        skew_product(get_system("Lorenz"), get_system("Rossler"), Coupling(**arguments))


@pytest.mark.parametrize("driver,response,message", [("Torus", "Lorenz", "depends on time"), ("MackeyGlass", "Lorenz", "delay"), ("Lorenz", "MackeyGlass", "delay")])
def test_bad_pairs_are_named(driver, response, message):
    with pytest.raises(ValueError, match=message):
        skew_product(get_system(driver), get_system(response))


def test_pairs_are_different_and_as_many_as_there_can_be():
    founders = [get_system(name) for name in ("Lorenz", "Thomas", "Chen")]
    pairs = draw_pairs(founders, 6, np.random.default_rng(0))
    assert len({system.name for system in pairs}) == 6
    assert [s.name for s in draw_pairs(founders, 4, np.random.default_rng(0))] == [s.name for s in pairs[:4]]
    with pytest.raises(ValueError, match="3 founders make 6 pairs of this kind, not 7"):
        draw_pairs(founders, 7, np.random.default_rng(0))


# ---- in data sets ----


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "data"
    generate(GenerationConfig(str(folder), systems=["Lorenz", "Chen", "Thomas", "Aizawa", "Rossler", "Halvorsen", "Dadras", "Duffing", "SprottT", "Sakarya"][:8], n_params=2, length=128,
                              points_per_period=32, test_fraction=0.4, validation_fraction=0.0, skew=SkewConfig(10, kind=["state", "diffusive"], with_founders=True)), QUIET)
    return folder


def test_both_founders_of_a_pair_are_on_its_side(data):
    manifest = read_manifest(data)
    sides = {split: {family for name in names for family in manifest["families"][name]} for split, names in manifest["split"].items()}
    assert not sides["train"] & sides["test"] and sides["train"] and sides["test"]
    made = {split: [name for name in names if "_drives_" in name] for split, names in manifest["split"].items()}
    assert len(made["train"]) + len(made["test"]) == 10 and made["test"] and all(len(manifest["families"][name]) in (1, 2) for name in made["train"])
    assert not verify(data)
    items = open_store(data)
    assert any("_drives_" in item.system for item in items) and any("_drives_" not in item.system for item in items)


def test_a_stored_pair_is_made_again_from_the_data_set_alone(data):
    import json

    item = next(item for item in open_store(data) if "_drives_" in item.system)
    system = System.from_json(json.dumps(read_manifest(data)["systems"][item.system]["system"])).with_params(item.params)
    again = integrate_ensemble(system, ics=item.ic, length=20, dt=item.dt, start=item.t0).observed()[0]
    assert np.abs(again - item.target[:, :20]).max() < 1e-4 * np.abs(item.target).max()
    assert item.target.shape[0] == system.observed_dim


def test_the_number_of_workers_leaves_no_trace_on_pairs(data, tmp_path):
    from dataclasses import replace

    import yaml
    config = GenerationConfig.from_mapping(yaml.safe_load((data / "config.yaml").read_text()))
    generate(replace(config, data_dir=str(tmp_path / "data"), workers=1), QUIET)
    bytes_of = lambda folder: {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.arrow")}
    assert bytes_of(data) == bytes_of(tmp_path / "data")


def test_the_report_of_a_recipe_counts_what_is_there(data, tmp_path):
    import importlib.util
    import shutil

    spec = importlib.util.spec_from_file_location("recipe_results", ROOT / "tools" / "recipe_results.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    found, items = tool.results(data, None), open_store(data)
    manifest = read_manifest(data)
    assert not found["problems"] and found["finished"] == found["systems"] == sum(map(len, manifest["split"].values()))
    for table in (found["sides"], found["sorts"]):
        assert sum(row["trajectories"] for row in table.values()) == len(items) and sum(row["systems"] for row in table.values()) == found["systems"]
        assert all(row["tried"] - sum(count for reason, count in row.items() if reason.startswith("rejected")) >= row["trajectories"] for row in table.values())
    assert set(found["sorts"]) == {"founder", "state", "diffusive"} and found["sorts"]["founder"]["systems"] == 8
    assert found["bytes"] == sum(path.stat().st_size for path in data.rglob("*.arrow"))
    shutil.copytree(data, tmp_path / "data")
    assert tool.results(tmp_path / "data", None)["digest"] == found["digest"]
    next((tmp_path / "data").rglob("*.arrow")).write_bytes(b"")
    assert tool.results(tmp_path / "data", None)["problems"]
    shutil.rmtree(tmp_path / "data" / "systems")
    left = tool.results(tmp_path / "data", None)
    assert left["finished"] == left["files"] == 0 and "not finished" in left["problems"][0]


def test_pairs_that_all_diverge_are_told_one_by_one(tmp_path):
    said = Console(record=True, width=200, file=open("/dev/null", "w"))
    config = GenerationConfig(str(tmp_path / "data"), systems=["Lorenz", "Rossler", "SprottB"], split="train", n_params=1, length=64,
                              skew=SkewConfig(2, strength=1e4))
    with pytest.raises(ValueError, match="not one trajectory"):
        generate(config, said)
    text = said.export_text()
    assert text.count("DIVERGED") == 2 and text.count("_drives_") >= 2


@pytest.mark.parametrize("changes,message", [({"skew": {"n_pairs": -1}}, "0 or more"), ({"skew": {"pairs": 3}}, "no key 'pairs'"), ({"skew": {"kind": "flo"}}, "did you mean 'flow'"),
                                             ({"skew": {"n_pairs": 1}, "archive": "x"}, "two sources"), ({"skew": {"n_pairs": 50}, "systems": ["Lorenz", "Chen"]}, "make 2 pairs")])
def test_bad_settings_of_pairs_are_named(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        generate({"data_dir": str(tmp_path / "data"), "split": "train", **changes}, QUIET)
    assert not (tmp_path / "data").exists()

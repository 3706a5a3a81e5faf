"""Tokens, error growth and forgetting: known answers on other systems than the notebooks', what is refused, and commands that are killed and go on."""

import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from chronos_dysts import models
from chronos_dysts.baselines import Persistence, Seasonal
from chronos_dysts.cli import main
from chronos_dysts.integration import sample_initial_conditions
from chronos_dysts.lyapunov import reference_exponents
from chronos_dysts.probing import error_growth, forgetting, tokens
from chronos_dysts.protocols import TrajectorySpec
from chronos_dysts.store import Trajectory, write_trajectory
from chronos_dysts.systems import get_system

QUIET = Console(quiet=True)
FAMILIES = models.FAMILIES
SIZE = dict(size="nano", d_model=32, d_kv=8, d_ff=64, num_layers=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    "A tiny checkpoint of each family, by its short name."
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for family in FAMILIES:
        more = {"n_tokens": 128} if family == "chronos-t5" else {}
        size = {key: value for key, value in SIZE.items() if key != "d_kv" or family != "chronos-dysts"}
        model = models.build(family, size, context_length=64, prediction_length=16, **more)
        if family == "chronos-dysts":  # its heads begin at zero, where nothing hangs on the layers
            torch.manual_seed(3)
            for head in (model.query, model.correction, model.widths): torch.nn.init.normal_(head.weight, std=0.1)
        made[family] = models.save(model, folder / family)
    return made


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    "Two flows of other families, two trajectories each, as a test split."
    folder = tmp_path_factory.mktemp("data")
    for name in ("Halvorsen", "SprottB"):
        for k, t in enumerate(TrajectorySpec((name,), n_ics=2, length=260, points_per_period=30).make(name)):
            write_trajectory(Trajectory(t.target, t.item_id, name, dict(t.params), t.ic, t.dt, t.period, 0), folder / "test" / name / f"{k}_T-260.arrow")
    return folder


# ---- error growth ----

@pytest.mark.parametrize("name", ["Halvorsen", "HyperLorenz"])
def test_twins_grow_with_the_largest_exponent(name):
    pair = error_growth.twins(get_system(name), n_pairs=192)
    assert abs(pair.rate().value / reference_exponents(name).exponents[0] - 1) < 0.1
    assert np.isclose(np.exp(np.log(pair.error[:, 0]).mean()), 1e-8, rtol=1e-3)
    assert (pair.horizon(1e-4) < pair.horizon(1e-2)).all()


def test_twins_on_a_torus_stay_together():
    # quasi-periodic and undriven: two uncoupled oscillators
    system = replace(get_system("Lorenz"), name="Tori", variables=("x", "y", "u", "v"), equations=("y", "-x", "1.618*v", "-1.618*u"), parameters=(), ic=(1.0, 0.0, 0.5, 0.0), period=6.28, definitions=(), observables=(), scale=(1.0,) * 4)
    pair = error_growth.twins(system, n_pairs=8, exponent=0.0)
    assert abs(pair.rate().value) < 2e-3 and np.isinf(pair.horizon(1e-6)).all()


def test_coarser_integration_is_lost_earlier_and_float32_before_float64():
    limits = error_growth.precision_limits(get_system("Halvorsen"), n_pairs=12, tolerances=(1e-4, 1e-10))
    lost = {name: np.median(s.horizon()) * s.exponent for name, s in limits.items()}
    assert lost["tolerance 1e-04"] + 8 < lost["tolerance 1e-10"] and 8 < lost["float32"] < 20


def test_a_slope_is_that_of_the_line_and_its_interval_covers(rng=np.random.default_rng(0)):
    x = np.arange(6.0)
    assert error_growth.fit_slope(x, np.stack([2 * x + 1, 4 * x])).value == pytest.approx(3)
    inside = [3.0 in error_growth.fit_slope(x, 3 * x + rng.normal(0, 1, (40, 1)) * x + rng.normal(0, 1, (40, 6)), n_bootstrap=200) for _ in range(60)]
    assert 0.85 < np.mean(inside) <= 1
    for wrong, message in ((np.zeros((2, 5)), "shape"), (np.full((2, 6), np.nan), "finite")):
        with pytest.raises(ValueError, match=message): error_growth.fit_slope(x, wrong)
    with pytest.raises(ValueError, match="at least 3"): error_growth.fit_slope(x[:2], np.zeros((2, 2)))


def test_rounding_to_bits():
    x = np.random.default_rng(0).normal(size=(3, 500))
    for bits in (1, 4, 11):
        q = error_growth.quantised(x, bits)
        assert np.abs(q - x).max() <= np.ptp(x, axis=1).max() / 2**bits / 2 * (1 + 1e-9)
        assert all(len(np.unique(row.round(9))) <= 2**bits for row in q)
    for bits in (0, 53, 2.5):
        with pytest.raises(ValueError, match="bits"): error_growth.quantised(x, bits)
    assert np.isfinite(error_growth.quantised(np.ones((1, 9)), 3)).all()


def test_what_a_context_is_worth_in_bits():
    bits = (2, 4, 6, 8)
    errors = 2.0 ** -np.array(bits)
    assert error_growth.carried_bits(2.0**-5, bits, errors) == pytest.approx(5)
    assert error_growth.carried_bits(1e-9, bits, errors) == np.inf and np.isnan(error_growth.carried_bits(1.0, bits, errors))


def test_the_equations_as_a_forecaster():
    [t] = TrajectorySpec(("Halvorsen",), length=120, points_per_period=30).make("Halvorsen")
    forecast = error_growth.Integrator(get_system("Halvorsen"), t.dt).forecast(t.target[None, :, :100], 20)
    np.testing.assert_allclose(forecast.median[0], t.target[:, 100:], rtol=1e-6, atol=1e-8)
    for name, reason in (("Duffing", "depends on time|not its state"), ("MackeyGlass", "delay")):
        with pytest.raises(ValueError, match=reason): error_growth.Integrator(get_system(name), 0.1)


def test_same_windows_whatever_the_context_and_refusals():
    [t] = TrajectorySpec(("SprottB",), length=300, points_per_period=30).make("SprottB")
    errors = error_growth.context_scaling(Persistence(), [t], (16, 64, 128), step=4, n_windows=5)
    assert errors.shape == (1, 5, 3) and np.allclose(errors, errors[..., :1]), "persistence does not read more than the last point"
    with pytest.raises(ValueError, match="increase"): error_growth.context_scaling(Persistence(), [t], (64, 16), step=4)
    with pytest.raises(ValueError, match="300 points is shorter"): error_growth.context_scaling(Persistence(), [t], (64, 400), step=4)
    constant = np.concatenate([t.target, np.ones((1, 300))])
    with pytest.raises(ValueError, match="coordinate 3 does not move"): error_growth.forecast_errors(Persistence(), constant, np.array([100]), 50, 5)


# ---- tokens ----

def test_usage_of_bins():
    assert tokens.bin_usage(np.array([8, 0, 0, 8])) == {"bins": 4, "used": 0.5, "entropy": 1.0, "effective bins": 2.0}


@pytest.mark.parametrize("family", FAMILIES)
def test_predicted_distributions(family, tiny):
    forecaster = models.load(tiny[family], n_samples=4)
    context = np.random.default_rng(0).normal(size=(6, 2, 64))
    found = tokens.predicted(forecaster, context, context[..., :5] * 1.01)
    assert found.entropy.shape == found.pit.shape == (6, 2, 5) and (found.pit >= 0).all() and (found.pit <= 1).all()
    moved = tokens.predicted(forecaster, 100 * context + 7, 100 * context[..., :5] * 1.01 + 7)
    np.testing.assert_allclose(found.entropy, moved.entropy, atol=2e-2)  # in units of the context
    high = tokens.predicted(forecaster, context, np.full((6, 2, 5), 30.0))
    assert high.pit[..., 0].min() > 0.85, "what lies far above the forecast is in its upper tail"


def test_entropy_of_quantiles_and_their_pit():
    levels = np.arange(1, 10) / 10
    even = levels * 4.0
    assert tokens.quantile_entropy(even, levels) == pytest.approx(np.log2(3.2))
    pit = tokens.quantile_pit(np.broadcast_to(even, (5, 9)), levels, np.array([-1.0, 0.4, 1.0, 3.6, 9.0]), np.full(5, 0.5))
    np.testing.assert_allclose(pit, [0.05, 0.1, 0.25, 0.95, 0.95], atol=1e-9)
    assert tokens.calibration_error(np.full(1000, 0.001)) == pytest.approx(0.5)


def test_local_expansion_tends_to_the_exponent_and_bounds_it():
    system = get_system("Halvorsen")
    ics = sample_initial_conditions(system, np.random.default_rng(0), 200)
    exponent = reference_exponents("Halvorsen").exponents[0]
    means = [tokens.local_expansion(system, ics, f / exponent).mean() for f in (0.5, 2, 3.5)]
    assert means[0] > means[1] > means[2] > exponent * 0.95 and means[2] < 1.5 * exponent
    with pytest.raises(ValueError, match="delay"): tokens.local_expansion(get_system("MackeyGlass"), np.ones((2, 1)), 1.0)
    with pytest.raises(ValueError, match=r"shape \(n, 3\)"): tokens.local_expansion(system, np.ones((2, 4)), 1.0)
    driven = get_system("Torus")
    with pytest.raises(ValueError, match="driven"): tokens.local_expansion(driven, np.ones((2, 3)), 1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_heads_and_their_ablation(family, tiny):
    forecaster = models.load(tiny[family], n_samples=2)
    context = np.random.default_rng(1).normal(size=(4, 2, 64))
    with pytest.raises(ValueError, match="switch to eager"): tokens.attention_maps(forecaster, context)
    maps = tokens.attention_maps(forecaster, context, eager=True)
    tokens_of_context = 64 if family == "chronos-t5" else 4
    if family == "chronos-dysts": assert {w.shape for w in maps.values()} == {(8, 4, 5, 4)}, "the patches of the context, and the first of the forecast"
    assert maps and all(w.shape[0] == 8 and w.shape[-1] in (tokens_of_context, 1) and (w >= 0).all() and w.sum(-1).max() < 1 + 1e-5 for w in maps.values())
    with pytest.raises(ValueError, match="switch to eager"): tokens.attention_maps(forecaster, context)  # it is put back
    before = forecaster.forecast(context, 8).median
    name = next(iter(maps))
    with tokens.ablated(forecaster.model, [(name, h) for h in range(maps[name].shape[1])]): changed = forecaster.forecast(context, 8).median
    assert not np.array_equal(changed, before) and np.array_equal(forecaster.forecast(context, 8).median, before)
    with pytest.raises(ValueError, match="there is no attention 'nothing'"), tokens.ablated(forecaster.model, [("nothing", 0)]): pass
    with pytest.raises(ValueError, match="has the heads 0 to"), tokens.ablated(forecaster.model, [(name, 99)]): pass


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_over_channels(family, tiny):
    forecaster, context = models.load(tiny[family], n_samples=2), np.random.default_rng(1).normal(size=(4, 3, 64)).cumsum(-1)
    if family in ("chronos-t5", "chronos-bolt"):
        with pytest.raises(ValueError, match="reads each coordinate by itself"): tokens.attention_maps(forecaster, context, eager=True, over="channels")
        return
    with pytest.raises(ValueError, match="switch to eager"): tokens.attention_maps(forecaster, context, over="channels")
    maps = tokens.attention_maps(forecaster, context, eager=True, over="channels")
    assert maps and {w.shape for w in maps.values()} == {(4, 5 if family == "chronos-dysts" else 4, 4, 3, 3)}
    order = [1, 2, 0]
    for name, w in tokens.attention_maps(forecaster, context[1:3][:, order], eager=True, over="channels").items():
        np.testing.assert_allclose(maps[name].sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(w, maps[name][1:3][..., order, :][..., order], atol=1e-4, err_msg="a window stands for itself, its coordinates in any order")
    with pytest.raises(ValueError, match="axis of attention"): tokens.attention_maps(forecaster, context, eager=True, over="layers")


def test_maps_of_our_own_family_are_those_of_the_formula(tiny):
    forecaster = models.load(tiny["chronos-dysts"])
    context, seen = np.random.default_rng(3).normal(size=(2, 2, 64)).cumsum(-1), {}
    module = forecaster.model.get_submodule("layers.0.time")
    handle = module.qkv.register_forward_hook(lambda _, args, output: seen.update(qkv=output))
    [weights] = tokens.attention_maps(forecaster, context, eager=True).values()
    handle.remove()
    q, k, _ = (part.detach().numpy().reshape(4, -1, 4, 8).swapaxes(1, 2) for part in seen["qkv"].chunk(3, -1))
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(8)
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(weights, (expected / expected.sum(-1, keepdims=True))[:, :, :5, :4], atol=1e-5)
    with torch.no_grad(): module.qkv.weight[:64] = 0  # nothing is asked for and nothing answers: attention is even over the patches of context and forecast
    [weights] = tokens.attention_maps(forecaster, context, eager=True).values()
    np.testing.assert_allclose(weights, 1 / seen["qkv"].shape[1], atol=1e-6)


@pytest.mark.parametrize("family", ["chronos-dysts", "chronos-2"])
def test_an_eager_model_forecasts_the_same(family, tiny):
    forecaster, context = models.load(tiny[family]), np.random.default_rng(4).normal(size=(3, 2, 64)).cumsum(-1)
    fast = forecaster.forecast(context, 16).quantiles
    with tokens.eagerly(forecaster.model): slow = forecaster.forecast(context, 16).quantiles
    np.testing.assert_allclose(slow, fast, rtol=1e-4, atol=1e-4)
    if family == "chronos-dysts":
        rows, groups = torch.from_numpy(context.reshape(6, 64)), torch.tensor([0, 0, 1, 1, 2, 3])
        rows[0, :20] = torch.nan  # a patch holds nothing and is not attended to; windows of one channel have no second
        with torch.no_grad(): fast = forecaster.model(rows, groups).quantile_preds
        with torch.no_grad(), tokens.eagerly(forecaster.model): torch.testing.assert_close(forecaster.model(rows, groups).quantile_preds, fast, rtol=1e-4, atol=1e-4)


def test_tokens_of_steps():
    assert tokens.token_of(np.array([0, 15, 16, 63]), 64, 16, 4).tolist() == [0, 0, 1, 3]
    assert tokens.token_of(np.array([0, 3, 4, 59]), 60, 16, 4).tolist() == [0, 0, 0, 3]  # the first is filled up from the left
    assert tokens.token_of(np.arange(5), 5, 1, 5).tolist() == [0, 1, 2, 3, 4]


def test_an_ablated_head_writes_nothing(tiny):
    "The same as a hook that silences the head before the output projection."
    model = models.load_model(tiny["chronos-bolt"]).eval()
    context = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    name = "encoder.block.0.layer.0.SelfAttention"
    module = model.get_submodule(name)
    width = module.o.weight.shape[1] // module.n_heads

    def silenced(_, args):
        x = args[0].clone()
        x[..., width:2 * width] = 0
        return (x,)
    handle = module.o.register_forward_pre_hook(silenced)
    with torch.no_grad(): hooked = model(context=context).quantile_preds
    handle.remove()
    with tokens.ablated(model, [(name, 1)]), torch.no_grad(): zeroed = model(context=context).quantile_preds
    torch.testing.assert_close(zeroed, hooked)


def test_shapes_of_maps():
    rng = np.random.default_rng(0)
    lag = np.arange(40)[:, None] - np.arange(40)
    assert tokens.toeplitz_score(np.exp(-np.abs(lag) / 3)) == pytest.approx(1)
    assert abs(tokens.toeplitz_score(rng.random((40, 40)))) < 0.1 and tokens.block_score(rng.random((40, 40))) < 0.15
    stretches = np.repeat(np.arange(4), 10)
    blocks = rng.random((4, 4))[stretches[:, None], stretches]
    assert tokens.block_score(blocks, 4) == pytest.approx(1) and tokens.toeplitz_score(blocks) < 0.8
    assert tokens.toeplitz_score(np.full((20, 20), 0.05)) == 0
    with pytest.raises(ValueError, match="square of at least 8"): tokens.toeplitz_score(np.ones((4, 4)))


def test_the_step_after_the_match():
    x = np.random.default_rng(0).normal(size=(2, 1, 80))
    x[0, 0, 30:36], x[1, 0, 11:17] = x[0, 0, -6:], x[1, 0, -6:]
    assert tokens.after_match(x, 6, 6).tolist() == [36, 17]
    with pytest.raises(ValueError, match="at least 2"): tokens.induction(np.ones((1, 1, 1, 80)), np.array([3]))


def test_overlap_is_one_for_a_copy_only():
    rng = np.random.default_rng(0)
    context = rng.normal(size=(5, 100)).cumsum(-1)
    copy = context[:, 20:40]
    np.testing.assert_allclose(tokens.overlap(copy, context), 1)
    assert (tokens.overlap(copy + 3 * copy.std(-1, keepdims=True), context) < 0.999).all()
    # by hand, for one stretch: Lin's coefficient
    f, s = rng.normal(size=(2, 30))
    expected = 2 * np.cov(f, s, bias=True)[0, 1] / (f.var() + s.var() + (f.mean() - s.mean()) ** 2)
    assert tokens.overlap(f[None], s[None])[0] == pytest.approx(expected)
    with pytest.raises(ValueError, match="no stretch"): tokens.overlap(np.ones((1, 9)), np.ones((1, 5)))
    surrogates = tokens.phase_surrogates(context, rng, 3)
    np.testing.assert_allclose(np.abs(np.fft.rfft(surrogates)), np.broadcast_to(np.abs(np.fft.rfft(context)), surrogates.shape[:2] + (51,)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("windows, expansion, said", [(5, 1.0, "at least 8 windows of a trajectory, and there are 5"), (9, np.nan, "no flow here whose expansion is known"), (9, 0.0, "the same everywhere")])
def test_why_there_is_no_correlation(windows, expansion, said):
    rows = pd.DataFrame({"system": "Lorenz", "trajectory": "Lorenz/0", "window": np.repeat(np.arange(windows), 3), "entropy": np.random.default_rng(0).random(3 * windows), "expansion": expansion * np.repeat(np.arange(windows), 3)})
    assert said in tokens._tell_entropy(rows, {}, 0)
    told = tokens._tell_entropy(pd.concat([rows.assign(window=rows.window + k * windows, expansion=np.repeat(np.arange(windows), 3) + k) for k in range(2)]), {}, 0)
    assert "rank correlation" in told and "at least" not in told


def test_a_model_whose_attention_cannot_be_read_is_looked_at_otherwise(tiny, data_dir, tmp_path, monkeypatch):
    def unreadable(*_): raise ValueError("Model has no attention with projections q, k, v and o, so its maps cannot be read")
    monkeypatch.setattr(tokens, "_attentions", unreadable)
    result = tokens.run_tokens(dict(model_id=str(tiny["chronos-bolt"]), data_dir=str(data_dir), output_dir=str(tmp_path / "out"), systems=["Halvorsen"], n_trajectories=1, prediction_length=8, steps=2, n_windows=3, n_surrogates=2), QUIET)
    assert any(sentence.startswith("Attention is left out: Model has no attention") for sentence in result["summary"]) and not (tmp_path / "out" / "heads.parquet").exists()
    with pytest.raises(ValueError, match="no attention with projections"): tokens.attention_maps(models.load(tiny["chronos-bolt"]), np.random.default_rng(0).normal(size=(1, 1, 64)))


# ---- forgetting ----

def test_the_suite_is_not_what_is_trained_on():
    from chronos_dysts.generic import measured_series
    known = [s.target[0] for s in measured_series()]
    for dataset in forgetting.measured_datasets():
        for x in dataset.values:
            for y in known:
                y = y[np.isfinite(y)]
                n = min(len(x), len(y))
                assert not np.allclose(x[:n], y[:n]), dataset.name
    a, b, c = forgetting.suite(count=2), forgetting.suite(count=2), forgetting.suite(count=2, seed=1)
    assert all(np.array_equal(x, y) for p, q in zip(a, b) for x, y in zip(p.values, q.values))
    assert not any(np.array_equal(x, y) for p, q in zip(a, c) if p.group != "measured" for x, y in zip(p.values, q.values))
    with pytest.raises(ValueError, match="four horizons"): forgetting.suite(count=2, length=64)


def test_scores_by_hand():
    x = np.arange(40.0) ** 1.1
    dataset = forgetting.Dataset("d", "g", (x, 5 * x), 2, 5, 2)
    rows = forgetting.measure(Seasonal(1), [dataset], 20)
    assert rows[["series", "window"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] or set(map(tuple, rows[["series", "window"]].to_numpy())) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    last = rows[(rows.series == 0) & (rows.window == 1)].iloc[0]
    context, truth = x[15:35], x[35:]
    assert last.mase == pytest.approx(np.abs(truth - context[-1]).mean() / np.abs(context[2:] - context[:-2]).mean())
    assert last.loss == pytest.approx(np.abs(truth - context[-1]).mean()) and last["size"] == pytest.approx(truth.mean())
    assert np.allclose(rows[rows.series == 0].mase, rows[rows.series == 1].mase), "no unit"
    with pytest.raises(ValueError, match="too few"): forgetting.measure(Seasonal(1), [replace(dataset, n_windows=6)], 20)


def test_windows_do_not_depend_on_what_a_model_reads(tiny):
    rng = np.random.default_rng(0)
    dataset = forgetting.Dataset("d", "g", (rng.normal(size=300).cumsum(), rng.normal(size=120).cumsum()), 1, 8, 2)
    persistence, model = (forgetting.measure(forecaster, [dataset]) for forecaster in (Seasonal(1), models.load(tiny["chronos-bolt"])))  # one reads all, the other 64 steps
    assert np.isfinite(forgetting.forgetting(persistence, model)[["ratio", "low", "high"]]).all(axis=None)
    mae = [rows.mase / rows.loss for rows in (persistence, forgetting.measure(Seasonal(2), [dataset]))]
    np.testing.assert_allclose(*mae)  # of point forecasts: the scale is that of the window, whoever forecasts


def test_ratios_and_their_mean():
    rows = pd.DataFrame({"dataset": list("aabb"), "group": "g", "series": [0, 1, 0, 1], "window": 0, "mase": [1.0, 3, 2, 2], "loss": [1.0, 1, 2, 2], "size": 1.0})
    worse = rows.assign(mase=rows.mase * [2, 2, 0.5, 0.5], loss=rows.loss * 3)
    table = forgetting.ratios(rows, worse)
    assert table.mase_ratio.tolist() == [2, 0.5] and table.wql_ratio.tolist() == [3, 3]
    mean = forgetting.forgetting(rows, worse).set_index(["group", "score"])
    assert mean.ratio["all", "mase"] == pytest.approx(1) and mean.low["all", "mase"] == pytest.approx(0.5) and mean.high["all", "mase"] == pytest.approx(2)
    assert mean.loc[("all", "wql"), ["ratio", "low", "high"]].tolist() == pytest.approx([3, 3, 3])
    with pytest.raises(ValueError, match="not of the same windows"): forgetting.forgetting(rows, worse.iloc[:3])


def test_models_between_two(tiny):
    a = models.load_model(tiny["chronos-bolt"])
    b = models.build("chronos-bolt", SIZE, context_length=64, prediction_length=16, seed=5)
    for name, x in forgetting.interpolated(a, b, 0.25).state_dict().items(): torch.testing.assert_close(x, 0.75 * a.state_dict()[name] + 0.25 * b.state_dict()[name])
    with pytest.raises(ValueError, match="same shape"): forgetting.interpolated(a, models.build("chronos-bolt", {**SIZE, "d_ff": 32}, context_length=64, prediction_length=16), 0.5)
    with pytest.raises(ValueError, match="share=1.5"): forgetting.interpolated(a, b, 1.5)


# ---- the commands ----

def commands(tiny, data_dir):
    return {"tokens": [f"model_id={tiny['chronos-bolt']}", f"data_dir={data_dir}", "prediction_length=16", "steps=4", "n_windows=4", "n_surrogates=4"],
            "error_growth": [f"model_id={tiny['chronos-bolt']}", f"data_dir={data_dir}", "prediction_length=16", "step=8", "n_windows=3", "n_pairs=8", "bits=[4,8]"],
            "forgetting": [f"model_id={tiny['chronos-bolt']}", f"base={tiny['chronos-bolt']}", f"data_dir={data_dir}", "count=1", "shares=[0.5]"]}


@pytest.mark.parametrize("name, files", [("tokens", ("windows.parquet", "attention.parquet", "heads.parquet", "ablation.parquet", "entropy.png", "calibration.png", "heads.png")), ("error_growth", ("errors.parquet", "twins.parquet", "rates.parquet", "growth.png", "context.png", "bits.png")),
                                         ("forgetting", ("scores.parquet", "datasets.parquet", "forgetting.parquet", "flows.parquet", "frontier.png", "datasets.png"))])
def test_a_command_that_is_killed_goes_on(name, files, tiny, data_dir, tmp_path, capsys):
    words = ["probe", name, *commands(tiny, data_dir)[name]]
    killed = [*words, f"output_dir={tmp_path / 'k'}"]
    process = subprocess.Popen([sys.executable, "-c", f"import sys; from chronos_dysts.cli import main; sys.exit(main({killed!r}))"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline and not list((tmp_path / "k" / "pieces").glob("*.parquet")): time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "k" / "pieces").glob("*.parquet")}
    assert kept, "it was killed before it had kept anything"
    assert main([*words, f"output_dir={tmp_path / 'k'}"]) == 0 and main([*words, f"output_dir={tmp_path / 'whole'}"]) == 0
    assert all((tmp_path / "k" / "pieces" / piece).stat().st_mtime_ns == when for piece, when in kept.items()), "what was there is not made again"
    for file in files:
        assert (tmp_path / "k" / file).stat().st_size > 0
        if file.endswith(".parquet"): pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "k" / file), pd.read_parquet(tmp_path / "whole" / file))
    said = (tmp_path / "k" / "summary.txt").read_text().split("\n\n")[0]
    assert said == (tmp_path / "whole" / "summary.txt").read_text().split("\n\n")[0] and said


@pytest.mark.parametrize("name, changes, message", [
    ("tokens", ["context_length=128"], "reads 64 steps"), ("tokens", ["motif_length=40"], "motif_length=40"), ("tokens", ["n_windows=1"], "n_windows"), ("tokens", ["prediction_length=300"], "too few for"), ("tokens", ["model_id=null"], "model_id names no model"),
    ("error_growth", ["step=40"], "lies beyond the horizon"), ("error_growth", ["bits=[8,4]"], "bits increase"), ("error_growth", ["bits=[60]"], "no more than 52"), ("error_growth", ["context_lengths=[8,16]"], "at least three"), ("error_growth", ["context_lengths=[8,16,512]"], "512 is more than"),
    ("forgetting", ["shares=[1.5]"], "between 0 and 1"), ("forgetting", ["base=null"], "does not say what it was fine-tuned from"), ("forgetting", ["count=0"], "count"), ("forgetting", ["split=nothing"], "nothing")])
def test_what_a_command_refuses(name, changes, message, tiny, data_dir, tmp_path, capsys):
    keys = {change.split("=")[0] for change in changes}
    words = [word for word in commands(tiny, data_dir)[name] if word.split("=")[0] not in keys]
    assert main(["probe", name, *words, *changes, f"output_dir={tmp_path / 'refused'}"]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


def test_forgetting_between_families_is_refused(tiny, tmp_path, capsys):
    assert main(["probe", "forgetting", f"model_id={tiny['chronos-bolt']}", f"base={tiny['chronos-2']}", f"output_dir={tmp_path / 'x'}"]) == 1
    assert "nothing was forgotten between them" in capsys.readouterr().err

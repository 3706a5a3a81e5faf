"""Baselines against definitions written as loops over windows and lags."""

import numpy as np
import pytest
import torch

from chronos_dysts import baselines
from chronos_dysts.baselines import (AR, ARIMA, BASELINES, NVAR, ContextMean, ContextParroting, Drift, EchoState, HankelDMD, Persistence, Seasonal, Simplex, SINDy, SMap,
                                     decorrelation_lag, dominant_period, get_baseline, lag_distances)
from chronos_dysts.forecasting import Forecaster


def context_of(seed, shape=(5, 2, 60)):
    return np.random.default_rng(seed).normal(size=shape).cumsum(-1)


def parrot_by_loop(context, motif, horizon, exclude=1):
    "Zhang and Gilpin's parrot for one window, step by step: nearest stretch, then one copied value at a time."
    x = (context - context.mean(-1, keepdims=True)) / context.std(-1, keepdims=True)
    n = x.shape[-1]
    best, where = np.inf, None
    for start in range(n - 2 * motif, -1, -1):  # the latest first: of equals the most recent
        lag = n - motif - start
        distance = sum((x[d, start + j] - x[d, n - motif + j]) ** 2 for d in range(len(x)) for j in range(motif))
        if lag >= exclude and distance < best: best, where = distance, start
    series = [list(channel) for channel in context]
    for h in range(horizon):
        for channel in series: channel.append(channel[where + motif + h])  # past the end of the context this is the forecast itself
    return np.array(series)[:, n:]


@pytest.mark.parametrize("motif", [1, 2, 5, 20, 30])
@pytest.mark.parametrize("seed", range(4))
def test_the_parrot_is_that_of_a_loop(seed, motif):
    context = context_of(seed)
    median = ContextParroting(motif).forecast(context, 45).median
    for window, forecast in zip(context, median):
        assert np.array_equal(forecast, parrot_by_loop(window, motif, 45))


@pytest.mark.parametrize("exclude", [1, 7, 15])
def test_excluded_lags_are_not_copied(exclude):
    context = context_of(9, (20, 2, 60))
    parrot = ContextParroting(3, exclude=exclude)
    assert parrot.neighbours(context, 10)[0].min() >= max(3, exclude)
    for window, forecast in zip(context, parrot.forecast(context, 20).median):
        assert np.array_equal(forecast, parrot_by_loop(window, 3, 20, exclude))


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_a_loop(seed):
    x, motifs = context_of(seed, (3, 2, 25)), [1, 3, 12]
    distances = lag_distances(x, motifs)
    for b in range(3):
        for i, motif in enumerate(motifs):
            for lag in range(1, 25):
                if not motif <= lag <= 25 - motif: assert np.isinf(distances[b, i, lag - 1])
                else: assert np.isclose(distances[b, i, lag - 1], sum(((x[b, :, -1 - j] - x[b, :, -1 - j - lag]) ** 2).sum() for j in range(motif)))


@pytest.mark.parametrize("period", [3, 10, 50, 100])
@pytest.mark.parametrize("dim", [1, 3])
def test_a_periodic_signal_is_repeated_exactly_for_ever(period, dim):
    signal = np.tile(np.random.default_rng(period).normal(size=(6, dim, period)), 40)
    for end in (3 * period + 1, 4 * period, 5 * period + period // 2):
        for parrot in (ContextParroting(), ContextParroting(1 if period == 3 else period // 3)):
            assert np.array_equal(parrot.forecast(signal[..., :end], 10 * period).median, signal[..., end:11 * period + end - period])


def choice_by_loop(window, horizon, lengths=(3, 5, 10)):
    "The rule of the default, step by step, for one window."
    from chronos_dysts.forecasting import Standardiser
    x = Standardiser.of(window[None]).apply(window[None])[0]
    length, longest = x.shape[-1], max(lengths)
    first = max(2 * longest, length // 2)
    if length - first <= horizon: return longest
    cuts = sorted(set(np.linspace(first, length - horizon, 24).astype(int).tolist()))
    error = {m: np.mean([np.abs(nearest_by_loop(x[:, :cut], m, horizon) - x[:, cut:cut + horizon]).mean() for cut in cuts]) for m in lengths}
    best, ends = min(lengths, key=error.get), min((length - first) / horizon, len(cuts))
    return best if error[best] < (1 - 1 / np.sqrt(ends)) * error[longest] else longest


def nearest_by_loop(x, motif, horizon):
    n = x.shape[-1]
    lag = min(range(motif, n - motif + 1), key=lambda k: (((x[:, n - motif:] - x[:, n - motif - k:n - k]) ** 2).sum(), k))
    return x[:, [n - lag + h % lag for h in range(horizon)]]


def henon_windows(n_windows, length, dim=1, seed=0):
    x = np.full((n_windows, length + 100), 0.1)
    x[:, 0] = np.random.default_rng(seed).uniform(-0.1, 0.1, n_windows)
    for n in range(2, x.shape[1]): x[:, n] = 1 - 1.4 * x[:, n - 1] ** 2 + 0.3 * x[:, n - 2]
    return np.stack([x[:, 100:], 0.3 * x[:, 99:-1]], 1)[:, :dim]


@pytest.mark.parametrize("horizon", (1, 3, 8, 20, 60))
def test_the_default_is_that_of_a_loop(horizon):
    context = np.concatenate([context_of(3, (6, 2, 120)), henon_windows(6, 120, 2)])
    lags, motifs = ContextParroting().neighbours(context, horizon)
    assert set(motifs) <= {3, 5, 10} and (min(motifs) < 10) == (horizon < 20)  # of twenty steps three ends fit into the half: they decide nothing here
    for window, lag, motif in zip(context, lags, motifs):
        assert motif == choice_by_loop(window, horizon) and ContextParroting(int(motif)).neighbours(window[None], horizon)[0] == lag


def test_the_choice_has_as_many_lengths_as_fit_and_keeps_to_its_bounds():
    context = henon_windows(20, 200)
    for length, longest in ((200, 10), (40, 10), (39, 5), (20, 5), (19, 3), (12, 3), (11, 3), (6, 3), (5, 2), (4, 2), (3, 1), (2, 1)):  # a length has to fit four times; the shortest twice, or what does
        assert set(ContextParroting().neighbours(context[..., :length], length // 2)[1]) == {longest}  # less than one end of that length fits
        assert ContextParroting().neighbours(context[..., :length], 1)[1].max() <= longest
    assert set(ContextParroting().neighbours(context, 2)[1]) == {3} and set(ContextParroting(motif_lengths=(5, 20)).neighbours(context, 2)[1]) == {5}
    lags, motifs = ContextParroting(exclude=15).neighbours(context, 2)
    assert lags.min() >= 15 and max(motifs) < 10
    assert set(ContextParroting(n_cuts=1).neighbours(context, 2)[1]) == {10}  # one end decides nothing


def test_a_short_motif_is_found_where_one_point_is_the_state():
    windows = henon_windows(60, 528, seed=1)
    past, ahead = windows[..., :512], windows[..., 512:]
    for steps in (1, 4, 12):
        three, ten, chosen = (np.abs(ContextParroting(d).forecast(past, steps).median - ahead[..., :steps]).mean() for d in (3, 10, None))
        assert chosen < 0.6 * ten and chosen < 1.05 * three


@pytest.mark.parametrize("seed, rate, context", [(5, 50, 512), (6, 25, 512), (7, 50, 256), (8, 100, 1024)])
def test_the_default_is_no_worse_than_the_worst_of_the_fixed_lengths_on_any_flow(seed, rate, context):
    "At 128 steps, in the mean and the median over eight windows of each flow, in all coordinates and in one. tools/parroting_choice.py has all flows, more rates, noise."
    from chronos_dysts.forecasting import Standardiser
    from chronos_dysts.metrics import mae, smape100
    from chronos_dysts.protocols import TrajectorySpec
    from chronos_dysts.systems import PANDA20
    flows = dict.fromkeys((*PANDA20, "Lorenz", "Rossler", "Thomas", "Halvorsen", "Chua", "Chen", "Aizawa", "Rucklidge", "HyperRossler", "Dadras", "SprottA", "SprottE", "SprottL", "Hadley", "Lorenz84", "RikitakeDynamo"))
    chosen_of = tuple(flows)[seed % 4::4]
    spec = TrajectorySpec(chosen_of, length=2048, points_per_period=rate, seed=seed)
    for name in chosen_of:
        x = spec.make(name)[0].target
        windows = np.stack([x[:, s:s + context + 128] for s in np.linspace(0, 2048 - context - 128, 8).astype(int)])
        windows = Standardiser.of(windows[..., :context]).apply(windows)
        for part in (windows, windows[:, :1]):
            *fixed, own = (ContextParroting(d).forecast(part[..., :context], 128).median for d in (3, 5, 10, None))
            for metric in (mae, smape100):
                errors = np.stack([metric(part[..., context:], forecast).mean(-1) for forecast in (*fixed, own)])
                for over in (np.mean, np.median): assert over(errors[3]) <= max(map(over, errors[:3])), (name, metric.__name__, over.__name__)


OPTIONAL = {"dmd": "pydmd", "nvar": "reservoirpy", "esn": "reservoirpy", "sindy": "pysindy"}


@pytest.fixture(params=BASELINES)
def baseline(request):
    if request.param in OPTIONAL: pytest.importorskip(OPTIONAL[request.param])
    return get_baseline(request.param)


def flow_windows(count=4, length=160, dim=3):
    "Windows of a torus seen through a quadratic map: smooth, bounded, predictable."
    t = np.arange(length) + 200 * np.arange(count)[:, None]
    a, b = np.sin(0.21 * t), np.sin(0.21 * 2 ** 0.5 * t + 1)
    return np.stack([a + 0.5 * b, a * b, b - a ** 2], 1)[:, :dim]


def test_windows_do_not_see_each_other_and_units_do_not_matter(baseline):
    n = 4 if baseline.name in ("arima", "ar", "esn", "sindy") else 12
    context = flow_windows(n, 128)
    if baseline.name == "arima":  # the likelihood of a series without noise has no maximum
        baseline = ARIMA((2, 0, 1))
        context = context[:, :2] + np.random.default_rng(0).normal(size=(n, 2, 128))
    together = baseline.forecast(context, 20)
    assert isinstance(baseline, Forecaster) and together.is_point == (baseline.name not in ("ar", "arima")) and np.isfinite(together.median).all()
    assert np.array_equal(together.median[1:3], baseline.forecast(context[1:3], 20).median)
    assert np.array_equal(together.median, (ARIMA((2, 0, 1)) if baseline.name == "arima" else get_baseline(baseline.name)).forecast(context, 20).median)  # reproducible
    scale, shift = np.array([[2.0 ** -9], [1.0], [2.0 ** 9]])[:context.shape[1]], np.array([[0.0], [4.0], [-32.0]])[:context.shape[1]]
    tolerance = 1e-8 if baseline.name not in ("arima", "nvar", "esn", "sindy", "smap", "dmd") else 1e-2  # these amplify rounding errors
    assert np.allclose((baseline.forecast(context * scale + shift, 20).median - shift) / scale, together.median, atol=tolerance)
    assert np.array_equal(baseline.forecast(torch.from_numpy(context), 20).median, together.median)


def test_a_window_is_forecast_the_same_in_any_company(baseline):
    "Fast and slow, large and small windows in one batch: whatever is chosen or scaled for one must not come from the others."
    if baseline.name == "arima": baseline = ARIMA((1, 1, 1))  # fast
    t = np.arange(128)
    fast, slow, noisy = np.sin(1.3 * t), np.sin(0.02 * t) + 0.01 * t, np.random.default_rng(0).normal(size=128).cumsum()
    contexts = np.stack([np.stack([fast, fast ** 2]), 1e3 * np.stack([slow, slow * fast]), 1e-3 * np.stack([noisy, np.roll(noisy, 5)])])
    together = baseline.forecast(contexts, 30)
    for k in range(3):
        alone = baseline.forecast(contexts[k:k + 1], 30)
        assert np.allclose(alone.median[0], together.median[k], rtol=1e-9, atol=1e-12), k
        assert np.allclose(alone.quantiles[0], together.quantiles[k], rtol=1e-9, atol=1e-12), k


def test_a_constant_coordinate_stays_and_a_constant_context_too(baseline, recwarn):
    context = flow_windows(2, 96)
    context[:, 1] = 7.3
    forecast = baseline.forecast(context, 12)
    assert np.allclose(forecast.median[:, 1], 7.3, rtol=1e-12) and np.isfinite(forecast.median).all() and np.ptp(forecast.median[:, 0]) >= 0
    assert np.allclose(baseline.forecast(np.full((1, 2, 96), 0.1), 12).quantiles, 0.1, rtol=1e-12)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_one_coordinate_and_many_are_taken(baseline):
    for dim in (1, 12):
        t = np.arange(140)
        context = np.sin(0.3 * t + np.linspace(0, 3, dim)[:, None])[None] + 0.1 * np.cos(0.77 * t)
        if baseline.name == "arima" and dim > 1: context = context[:, :2]
        forecast = baseline.forecast(context, 9)
        assert forecast.median.shape == (*context.shape[:2], 9) and np.isfinite(forecast.quantiles).all()


def test_a_context_that_is_too_short_is_named_or_taken(baseline):
    for length in range(1, 16):
        context = np.random.default_rng(length).normal(size=(2, 2, length))
        try: forecast = baseline.forecast(context, 7)
        except ValueError as error: assert "at least" in str(error), error
        else: assert np.isfinite(forecast.median).all()


def test_what_is_not_a_context_is_refused(baseline):
    with pytest.raises(ValueError, match="NaN"): baseline.forecast(np.full((1, 1, 80), np.nan), 3)
    with pytest.raises(ValueError, match="prediction_length"): baseline.forecast(np.zeros((1, 1, 80)), 0)


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_package_is_named_when_the_baseline_is_made(name, monkeypatch):
    def missing(package): raise ImportError(package)
    monkeypatch.setattr(baselines, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'chronos-dysts\[baselines\]'"): get_baseline(name)


def test_the_drift_is_a_line_through_the_ends():
    context = context_of(4)
    for window, forecast in zip(context, Drift().forecast(context, 7).median):
        for x, f in zip(window, forecast): assert np.allclose(f, np.polyval(np.polyfit([0, len(x) - 1], x[[0, -1]], 1), len(x) + np.arange(7)))


@pytest.mark.parametrize("period", (4, 17, 60))
def test_a_season_is_found_and_repeated(period):
    t = np.arange(400)
    wave = np.stack([np.sin(2 * np.pi * t / period), 0.3 * np.cos(2 * np.pi * t / period + 1)])[None] * [[1.0], [1e3]]
    assert abs(dominant_period(wave[..., :300])[0] - period) < 0.03 * period
    for seasonal in (Seasonal(), Seasonal(period)): assert np.allclose(seasonal.forecast(wave[..., :300], 100).median, wave[..., 300:], atol=2e-9 * np.abs(wave).max() + 1e-9)
    with pytest.raises(ValueError, match="does not fit"): Seasonal(301).forecast(wave[..., :300], 5)


def ar_process(rng, coefficients, length):
    x = np.zeros(length + 200)
    for t in range(len(coefficients), len(x)): x[t] = np.dot(coefficients, x[t - 1 :: -1][: len(coefficients)]) + rng.normal()
    return x[200:]


def test_the_autoregression_is_that_of_statsmodels_and_covers_what_it_should():
    from statsmodels.tsa.ar_model import AutoReg
    rng = np.random.default_rng(0)
    series = np.array([ar_process(rng, (1.2, -0.5), 420) for _ in range(40)])[:, None]
    forecast = AR().forecast(5 + 3 * series[..., :400], 20)
    inside = (forecast.quantiles[..., 0] <= 5 + 3 * series[..., 400:]) & (5 + 3 * series[..., 400:] <= forecast.quantiles[..., -1])
    assert abs(inside.mean() - 0.8) < 0.06
    ours, theirs = AR(2).forecast(series[:1, :, :400], 20), AutoReg(series[0, 0, :400], 2).fit().get_prediction(400, 419)
    assert np.allclose(ours.median[0, 0], theirs.predicted_mean, rtol=1e-6, atol=1e-8)
    assert np.allclose(ours.quantiles[0, 0, :, -1] - ours.median[0, 0], 1.2815515655 * theirs.se_mean, rtol=1e-6)
    assert AR()._series(series[0, 0, :400], 5)[0].shape == (5,)


def test_an_arima_without_a_maximum_falls_back_to_least_squares_and_counts():
    from statsmodels.tsa.arima.model import ARIMA as Model
    x = np.random.default_rng(0).normal(size=300).cumsum()
    mean, spread = ARIMA((3, 1, 2))._least_squares(x, 20)
    change = np.diff(x)
    past = np.stack([change[3 - k:-k] for k in (1, 2, 3)], -1)
    weights = np.linalg.lstsq(past, change[3:], rcond=None)[0]
    theirs = Model(x, order=(3, 1, 0)).smooth([*weights, np.var(change[3:] - past @ weights)]).get_forecast(20)
    assert np.allclose(mean, theirs.predicted_mean) and np.allclose(spread, theirs.se_mean)
    for order in ((0, 0, 0), (0, 2, 0), (2, 0, 1)): assert np.isfinite(ARIMA(order)._least_squares(x, 20)).all()
    t, arima = np.arange(300), ARIMA()
    smooth = np.stack([np.sin(0.1 * t) + np.sin(0.1 * 2 ** 0.5 * t), np.cos(0.17 * t) ** 3])
    forecast = arima.forecast(np.stack([smooth, x + smooth]), 40)
    assert np.isfinite(forecast.quantiles).all() and arima.fitted == 4 and 1 <= arima.fallbacks <= 3
    noisy = ARIMA((1, 1, 0))
    noisy.forecast(x[None, None], 5)
    assert (noisy.fallbacks, noisy.fitted) == (0, 1)


def test_an_arima_is_that_of_statsmodels():
    from statsmodels.tsa.arima.model import ARIMA as Model
    x = np.random.default_rng(1).normal(size=300).cumsum()
    x = (x - x.mean()) / x.std()
    forecast, theirs = ARIMA((2, 1, 0)).forecast(x[None, None], 10), Model(x, order=(2, 1, 0)).fit().get_forecast(10)
    assert np.allclose(forecast.median[0, 0], theirs.predicted_mean, atol=1e-3)
    assert np.allclose(forecast.quantiles[0, 0, :, 4], forecast.median[0, 0])


def simplex_by_loop(x, embedding, lag, stretch, horizon):
    "One window (dim, time), in units of its standard deviation."
    x = list(np.asarray(x).T)
    n, first = len(x), (embedding - 1) * lag
    vector = lambda t: np.concatenate([x[t - j * lag] for j in range(embedding)])
    for done in range(0, horizon, stretch):
        now = len(x) - 1
        near = sorted((np.linalg.norm(vector(t) - vector(now)), t) for t in range(first, min(n - stretch, now)))[: len(vector(now)) + 1]
        weight = np.exp(-np.array([d for d, _ in near]) / near[0][0])
        for h in range(1, min(stretch, horizon - done) + 1): x.append(np.average([x[t + h] for _, t in near], axis=0, weights=weight))
    return np.array(x)[n:].T


@pytest.mark.parametrize("seed", range(3))
def test_the_simplex_projection_is_that_of_a_loop(seed):
    context = context_of(seed, (3, 2, 90))
    forecast = Simplex(embedding=2, lag=3).forecast(context, 25).median
    for window, ahead in zip(context, forecast):
        stretch = min(decorrelation_lag(window[None])[0], 90 // 8)
        mean, std = window.mean(-1, keepdims=True), window.std(-1, keepdims=True)
        assert np.allclose(ahead, mean + std * simplex_by_loop((window - mean) / std, 2, 3, stretch, 25), rtol=1e-9)


def test_the_s_map_is_linear_regression_for_theta_zero_and_exact_for_a_linear_flow():
    angle = 0.2 * np.arange(300)
    rotation = np.stack([np.sin(angle), np.cos(angle), np.sin(2 ** 0.5 * angle), np.cos(2 ** 0.5 * angle)])[None]
    for theta in (0.0, 2.0): assert np.abs(SMap(theta=theta, embedding=1, ridge=1e-14).forecast(rotation[..., :200], 100).median - rotation[..., 200:]).max() < 1e-3
    context = context_of(7, (2, 2, 80))
    design = np.concatenate([np.ones((2, 1, 79)), context[..., :-1]], 1)
    for window, rows, ahead in zip(context, design, SMap(theta=0, embedding=1, ridge=0).forecast(context, 1).median):
        solution = np.linalg.lstsq(rows.T, window[:, 1:].T, rcond=None)[0]
        assert np.allclose(ahead[:, 0], np.concatenate([[1], window[:, -1]]) @ solution, rtol=1e-6)


def test_the_simplex_and_the_parrot_follow_a_logistic_map_for_a_while():
    x = np.empty(1300)
    x[0] = 0.37
    for k in range(1299): x[k + 1] = 3.9 * x[k] * (1 - x[k])
    forecast = Simplex(embedding=2, lag=1).forecast(x[None, None, :1200], 5).median[0, 0]
    assert np.abs(forecast[:3] - x[1200:1203]).max() < 0.05 < np.abs(np.repeat(x[1199], 3) - x[1200:1203]).max()


def test_dynamic_modes_of_oscillations_are_exact_and_growing_ones_are_held():
    pytest.importorskip("pydmd")
    t = np.arange(500)
    x = np.stack([np.sin(0.21 * t) + 0.5 * np.cos(0.077 * t), np.cos(0.21 * t + 1)])[None]
    assert np.abs(HankelDMD(rank=6).forecast(x[..., :300], 200).median - x[..., 300:]).max() < 1e-6
    growing = np.exp(0.01 * t[:300]) * np.sin(0.3 * t[:300])
    ahead = HankelDMD(rank=2).forecast(growing[None, None], 2000).median
    assert np.abs(ahead).max() < 3.1 * np.abs(growing).max()


def test_nvar_learns_a_quadratic_map_and_sindy_a_quadratic_flow():
    pytest.importorskip("reservoirpy")
    x = np.empty((2, 320))
    x[:, 0] = 0.1
    for k in range(319): x[:, k + 1] = 1 - 1.4 * x[0, k] ** 2 + x[1, k], 0.3 * x[0, k]
    assert np.abs(NVAR(delay=1, ridge=1e-10).forecast(x[None, :, :300], 10).median[0] - x[:, 300:310]).max() < 1e-3
    pytest.importorskip("pysindy")
    from chronos_dysts.integration import integrate_ensemble
    from chronos_dysts.systems import get_system
    flow = integrate_ensemble(get_system("Lorenz"), length=700, points_per_period=100, transient=20).states
    assert np.abs(SINDy().forecast(flow[..., :512], 60).median - flow[..., 512:572]).max() < 0.3 * flow.std()
    assert np.abs(EchoState().forecast(flow[..., :512], 20).median - flow[..., 512:532]).max() < 0.3 * flow.std()


def test_a_map_that_explodes_is_kept_in_bounds():
    x = np.cumsum(np.random.default_rng(0).normal(size=(3, 2, 100)), -1) ** 3
    low, high = x.min(-1, keepdims=True), x.max(-1, keepdims=True)
    for make in (NVAR, SINDy, EchoState, SMap, AR, HankelDMD):
        if make.name in OPTIONAL: pytest.importorskip(OPTIONAL[make.name])
        ahead = make().forecast(x, 400).median
        assert np.isfinite(ahead).all() and np.all(ahead >= low - 1.001 * (high - low)) and np.all(ahead <= high + 1.001 * (high - low)), make.name


@pytest.mark.parametrize("standardise", (True, False))
def test_nobody_sees_the_future(baseline, standardise):
    "The same contexts with another future: another score of the same forecast. What is standardised, chosen and fitted is so on the context alone."
    from chronos_dysts.evaluation import Protocol, evaluate
    from chronos_dysts.store import Trajectory

    class Watched:
        name = baseline.name

        def __init__(self): self.forecasts = []

        def forecast(self, context, prediction_length):
            self.forecasts.append(baseline.forecast(context, prediction_length))
            return self.forecasts[-1]

    if baseline.name == "arima": baseline = ARIMA((1, 1, 1))  # fast
    protocol = Protocol(96, 24, n_windows=1, metrics=("mae", "smape100"), standardise=standardise)
    series = [flow_windows(1, 120, 2)[0], 50 + 3 * np.random.default_rng(1).normal(size=(2, 120)).cumsum(-1)]
    rows, watched = [], []
    for future in (lambda x: x[:, 96:], lambda x: 1e6 * np.random.default_rng(2).normal(size=(2, 24)), lambda x: np.zeros((2, 24))):
        changed = [Trajectory(np.concatenate([x[:, :96], future(x)], -1), f"{name}/0", name, {}, np.zeros(2), 1.0, 30.0, 0) for name, x in zip("AB", series)]
        watched.append(Watched())
        rows.append(evaluate([watched[-1]], changed, protocol).value)
    for other, scores in zip(watched[1:], rows[1:]):
        for mine, theirs in zip(watched[0].forecasts, other.forecasts):
            assert np.array_equal(mine.median, theirs.median) and np.array_equal(mine.quantiles, theirs.quantiles)
        assert not np.allclose(scores, rows[0])


def test_persistence_and_mean():
    context = context_of(1)
    assert np.array_equal(Persistence().forecast(context, 3).median, np.stack([context[..., -1]] * 3, -1))
    assert np.allclose(ContextMean().forecast(context, 3).median, context.mean(-1)[..., None])


def test_a_constant_coordinate_and_a_constant_context_do_no_harm(recwarn):
    context = context_of(2, (4, 3, 64))
    with_constant = context.copy()
    with_constant[:, 1] = 7.0
    forecast = ContextParroting().forecast(with_constant, 30).median
    assert np.all(forecast[:, 1] == 7) and np.array_equal(forecast[:, [0, 2]], ContextParroting().forecast(context[:, [0, 2]], 30).median)
    assert np.all(ContextParroting().forecast(np.full((2, 2, 64), 0.1), 30).median == 0.1)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


@pytest.mark.parametrize("length", range(2, 12))
def test_short_contexts_are_copied_as_well_as_they_go(length):
    context = context_of(length, (3, 1, length))
    forecast = ContextParroting().forecast(context, 20).median
    assert all(np.isin(f, c).all() for f, c in zip(forecast, context))


@pytest.mark.parametrize("make, said", [
    (lambda: ContextParroting(0), "at least one point"), (lambda: ContextParroting(motif_lengths=()), "at least one point"), (lambda: ContextParroting(n_cuts=0), "n_cuts"), (lambda: ContextParroting(exclude=-1), "exclude"),
    (lambda: ContextParroting(40).forecast(np.zeros((1, 1, 79)), 3), "at least 80 points, not 79"), (lambda: ContextParroting().forecast(np.zeros((1, 1, 1)), 3), "at least 2 points"),
    (lambda: ContextParroting().forecast(np.full((1, 1, 20), np.nan), 3), "NaN"), (lambda: Persistence().forecast(np.zeros((1, 1, 20)), 0), "prediction_length"),
    (lambda: get_baseline("persistance"), "did you mean 'persistence'"), (lambda: Seasonal(0), "at least one step"), (lambda: AR(0), "at least one lag"), (lambda: ARIMA((1, 0)), "three numbers"),
    (lambda: Simplex(embedding=0), "embedding must be at least 1"), (lambda: SMap(theta=-1), "must not be negative"), (lambda: HankelDMD(0), "delays"), (lambda: NVAR(order=0), "order"), (lambda: NVAR(ridge=-1), "ridge"),
    (lambda: EchoState(units=0), "units"), (lambda: SINDy(degree=0), "degree")])
def test_bad_input_is_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_decorrelation_of_a_cosine_is_its_phase_of_one_over_e():
    wave = np.cos(2 * np.pi * np.arange(5000) / 100)[None, None]
    assert abs(decorrelation_lag(wave)[0] - 100 * np.arccos(1 / np.e) / (2 * np.pi)) <= 1

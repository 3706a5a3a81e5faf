"""Metrics against other people's implementations: scipy, statsmodels, dysts, nolds, and neurokit2 where it is installed."""

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path

import dysts.metrics
import numpy as np
import pytest
from scipy import stats
from statsmodels.tools import eval_measures

from chronos_dysts import metrics as m
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.lyapunov import kaplan_yorke_dimension, reference_exponents
from chronos_dysts.systems import get_system


@pytest.fixture(scope="session")
def nolds():
    "The measures of nolds 0.6.2; its package imports pkg_resources, which setuptools has no longer, for example data only."
    found = importlib.util.find_spec("nolds")
    if found is None: pytest.skip("nolds is not installed")
    package = types.ModuleType("nolds")
    package.__path__ = [str(Path(found.origin).parent)]
    sys.modules.setdefault("nolds", package)
    return importlib.import_module("nolds.measures")


def henon(length, a=1.4):
    orbit = np.empty((2, length + 500))
    point = (0.1, 0.1)
    for k in range(orbit.shape[1]): orbit[:, k] = point = (1 - a * point[0] ** 2 + point[1], 0.3 * point[0])
    return orbit[:, 500:]


def flow(name, length, points_per_period=30, start=0):
    ensemble = integrate_ensemble(get_system(name), length=start + length, points_per_period=points_per_period, transient=50)
    return ensemble.states[0][:, start:], ensemble.times[1] - ensemble.times[0]


# ---- pointwise ----


@pytest.mark.parametrize("seed", range(5))
def test_pointwise_errors_are_those_of_statsmodels_and_dysts(seed):
    y, f = np.random.default_rng(seed).normal(size=(2, 3, 40)) * 10.0 ** seed
    assert np.allclose(m.mae(y, f), eval_measures.meanabs(y, f, axis=1), rtol=1e-12)
    assert np.allclose(m.rmse(y, f), eval_measures.rmse(y, f, axis=1), rtol=1e-12)
    for ours, theirs in ((m.mae, "mae"), (m.rmse, "rmse"), (m.smape100, "smape")):
        assert np.allclose(ours(y, f), [getattr(dysts.metrics, theirs)(a, b) for a, b in zip(y, f)], rtol=1e-9), theirs
    assert np.allclose(m.smape200(y, f), [dysts.metrics.smape(a, b, scaled=False) for a, b in zip(y, f)], rtol=1e-9)
    assert np.allclose(m.nrmse(y, f), [np.sqrt(np.mean((a - b) ** 2)) / np.std(a) for a, b in zip(y, f)], rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", (False, True))
def test_spearman_is_that_of_scipy_and_dysts(seed, ties):
    y, f = np.random.default_rng(seed).normal(size=(2, 4, 3, 25))
    if ties: y, f = y.round(), f.round()
    expected = np.array([[stats.spearmanr(a, b).statistic for a, b in zip(*pair)] for pair in zip(y, f)])
    assert np.allclose(m.spearman(y, f), expected, rtol=1e-12)
    assert np.isclose(m.spearman(y[0, 0], f[0, 0]), dysts.metrics.spearman(y[0, 0], f[0, 0]))
    y[0, 0], f[1, 1, 3] = 2.0, np.nan
    assert np.argwhere(np.isnan(m.spearman(y, f))).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("count", (2, 3, 50))
def test_crps_is_that_of_its_definition_and_of_a_gaussian(count):
    rng = np.random.default_rng(count)
    y, x = rng.normal(size=(3, 8)), rng.normal(size=(3, count, 8))
    pairs = np.abs(x[:, :, None] - x[:, None]).sum((1, 2)) / (count * (count - 1))
    assert np.allclose(m.crps(y, x), (np.abs(x - y[:, None]).mean(1) - pairs / 2).mean(-1), rtol=1e-12)
    z = rng.normal(size=40_000)
    gaussian = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - np.pi ** -0.5  # Gneiting and Raftery 2007
    assert abs(m.crps(z, rng.normal(size=(count, 40_000))) - gaussian.mean()) < 0.02
    assert np.isnan(m.crps(y, x[:, :1])).all()
    with pytest.raises(ValueError, match="sample"): m.crps(y, x[:, :, :-1])


# ---- invariant measures ----


@pytest.mark.parametrize("sizes", ((50, 50), (50, 73), (64, 16)))
def test_the_wasserstein_distance_is_that_of_scipy(sizes):
    rng = np.random.default_rng(sum(sizes))
    y, x = rng.normal(size=(4, 1, sizes[0])), 2 + 3 * rng.normal(size=(4, 1, sizes[1]))
    expected = [stats.wasserstein_distance((a[0] - a.mean()) / a.std(), (b[0] - a.mean()) / a.std()) for a, b in zip(y, x)]
    assert np.allclose(m.sliced_wasserstein_distance(y, x), expected, rtol=1e-9)
    many, there = rng.normal(size=(3, sizes[0])), rng.normal(size=(3, sizes[1]))
    directions = np.random.default_rng(5).normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    scale = lambda z: (z - many.mean(1, keepdims=True)) / many.std(1, keepdims=True)
    expected = np.mean([stats.wasserstein_distance(d @ scale(many), d @ scale(there)) for d in directions])
    assert np.isclose(m.sliced_wasserstein_distance(many, there, directions=20, seed=5), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ("Lorenz", "Rossler", "Thomas"))
@pytest.mark.parametrize("seed", (1, 2))
def test_truth_parrot_noise_and_mean_stand_in_this_order(name, seed):
    from chronos_dysts.baselines import ContextParroting

    x, _ = flow(name, 45_000, 50, start=500 * seed)
    truth, scores = x[:, -10_000:], []
    noise = truth.mean(-1, keepdims=True) + truth.std(-1, keepdims=True) * np.random.default_rng(seed).normal(size=truth.shape)
    for start in range(0, 21_000, 3_000):
        parrot = ContextParroting(20).forecast(x[None, :, start:start + 2_500], 10_000).median[0]
        candidates = (x[:, start:start + 10_000], parrot, noise, truth.mean(-1, keepdims=True) + 0 * truth)
        scores.append([[m.state_space_divergence(truth, c), m.spectral_hellinger_distance(truth, c)] for c in candidates])
    medians = np.median(scores, axis=0)
    assert np.all(np.diff(medians, axis=0) > 0), medians
    assert np.all(medians[-1, 1] == 1)


@pytest.mark.parametrize("metric", (m.state_space_divergence, m.spectral_hellinger_distance, m.sliced_wasserstein_distance))
def test_the_floor_is_what_the_truth_scores(metric):
    x, _ = flow("Rossler", 6000)
    sample = np.random.default_rng(0).normal(size=(3, 2500))
    value, floor = m.with_floor(metric, x, sample)
    assert value == metric(x[:, :2500], sample) and floor == metric(x[:, :2500], x[:, -2500:]) and 0 < floor < value / 2
    with pytest.raises(ValueError, match="twice as long"): m.with_floor(metric, x, x)


def test_a_constant_has_the_spectrum_of_nothing():
    y = np.random.default_rng(0).normal(size=(2, 3, 400))
    for level in (0.0, 0.1, 1e9):
        assert np.all(m.spectral_hellinger_distance(y, np.full_like(y, level)) == 1)
    half = y.copy()
    half[:, 1] = 0.3
    assert np.allclose(m.spectral_hellinger_distance(y, half), 1 / 3) and np.isnan(m.spectral_hellinger_distance(half, y)).all()


def test_the_divergence_counts_cells_of_many_coordinates_and_of_many_bins():
    rng = np.random.default_rng(0)
    truth, sample = rng.normal(size=(24, 300)), rng.normal(size=(24, 300))
    assert np.isfinite(m.state_space_divergence(truth, sample, bins=1000)) and m.state_space_divergence(truth, truth) == 0


# ---- dimensions and exponents ----


def test_the_correlation_dimension_of_henon_is_that_of_nolds(nolds):
    x = henon(3000)
    radii = nolds.logarithmic_r(0.01, 0.3, 1.15)  # inside the scaling region
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = nolds.corr_dim(x[0], 2, rvals=radii, fit="poly")
    ours = m.correlation_dimension(x, theiler=10, points=3000)
    assert abs(ours - theirs) < 0.08 and abs(ours - 1.21) < 0.06 and abs(theirs - 1.21) < 0.06


@pytest.mark.parametrize("name, dimension", [("Lorenz", 2.05), ("Rossler", 1.95)])
def test_the_correlation_dimension_of_flows(name, dimension):
    x, _ = flow(name, 60_000)
    assert abs(m.correlation_dimension(x, quantile=0.003, points=4000) - dimension) < 0.15


def test_the_divergence_curve_is_that_of_nolds(nolds):
    x = henon(600)[0]
    lag, size, steps, theiler = 1, 2, 12, 15
    delayed = np.stack([x[:-1], x[1:]])  # nolds embeds with the oldest value first
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, (ks, curve, _) = nolds.lyap_r(x, emb_dim=size, lag=lag, min_tsep=theiler, trajectory_len=steps, fit="poly", debug_data=True)
    ours = m.divergence_curve(delayed, steps - 1, theiler)  # a trajectory of 12 points has 11 steps
    assert np.array_equal(ks, np.arange(steps)) and np.allclose(ours, curve, rtol=1e-9)
    assert np.isclose(m.lyapunov_from_data(delayed, theiler=theiler, steps=steps - 1, nearest=1.0, fit=(0, steps - 1)), theirs, rtol=1e-6)


def test_the_exponent_of_lorenz_is_near_that_of_neurokit():
    neurokit2 = pytest.importorskip("neurokit2", reason="neurokit2 wants an older setuptools than this set has")
    x, dt = flow("Lorenz", 3000)
    theirs, _ = neurokit2.complexity_lyapunov(x[0], delay=5, dimension=3, method="rosenstein1993", len_trajectory=40, separation=30)
    delayed = np.stack([x[0][10:], x[0][5:-5], x[0][:-10]])
    ours = m.lyapunov_from_data(delayed, theiler=30, steps=39, nearest=1.0, fit=(0, 39))
    assert abs(ours / theirs - 1) < 0.25


@pytest.mark.parametrize("start", (0, 3000, 7000))
def test_the_largest_exponent_of_lorenz_from_data(start):
    x, dt = flow("Lorenz", 8000, start=start)
    assert abs(m.lyapunov_from_data(x, dt) / 0.906 - 1) < 0.1


@pytest.mark.parametrize("name", ("Rossler", "Thomas", "Chen", "Halvorsen", "SprottF", "Aizawa", "Rucklidge", "QiChen"))
def test_the_largest_exponent_of_other_flows_from_data(name):
    x, dt = flow(name, 8000, start=1000)
    assert abs(m.lyapunov_from_data(x, dt) / reference_exponents(name).exponents[0] - 1) < 0.25


def test_exponents_of_maps_and_of_what_is_not_chaotic():
    logistic = np.empty((1, 3000))
    logistic[0, 0] = 0.3
    for k in range(2999): logistic[0, k + 1] = 4 * logistic[0, k] * (1 - logistic[0, k])
    assert abs(m.lyapunov_from_data(logistic) / np.log(2) - 1) < 0.1
    assert abs(m.lyapunov_from_data(henon(4000)) / 0.4192 - 1) < 0.1
    angle = np.arange(3000) / 10
    for wave in ([angle], [angle, 2 ** 0.5 * angle], [angle, 2 ** 0.5 * angle, 3 ** 0.5 * angle]):
        x = np.concatenate([[np.sin(a), np.cos(a)] for a in wave])
        assert abs(m.lyapunov_from_data(x, 0.1)) < 0.03
    units = np.array([[1e-6], [1e6]])
    assert np.isclose(m.lyapunov_from_data(henon(1000) * units), m.lyapunov_from_data(henon(1000)), rtol=1e-6)


def test_exponents_take_batches_and_name_what_they_cannot_do():
    x = np.stack([henon(600), henon(600)[:, ::-1], henon(600, 1.3)])[None]
    together = m.lyapunov_from_data(x, theiler=10, steps=20)
    assert together.shape == (1, 3) and np.isclose(together[0, 2], m.lyapunov_from_data(x[0, 2], theiler=10, steps=20))
    x[0, 0, 1], x[0, 1, 0, 5] = 3.0, np.nan
    assert np.isnan(m.lyapunov_from_data(x)).tolist() == [[True, True, False]]
    with pytest.raises(ValueError, match="more than 41 steps"): m.divergence_curve(x[..., :41], 20, 5)
    with pytest.raises(ValueError, match="theiler"): m.divergence_curve(x, 20, 500)
    with pytest.raises(ValueError, match="fit must be"): m.lyapunov_from_data(x, steps=20, fit=(5, 30))


def test_the_mean_period_of_a_wave_is_its_period():
    wave = np.sin(2 * np.pi * np.arange(4000) / np.array([[40], [25]]))
    assert abs(m.mean_period(wave) - 40) < 1 and np.isnan(m.mean_period(np.ones((2, 50))))


def test_kaplan_yorke_is_that_of_dysts_and_lorenz_has_2_06():
    import dysts.analysis

    for spectrum in ([0.9056, 0.0, -14.572], [0.0714, 0.0, -5.39], [0.11, 0.02, 0.0, -25.0]):
        assert np.isclose(kaplan_yorke_dimension(spectrum), dysts.analysis.kaplan_yorke_dimension(spectrum), rtol=1e-9)
    assert abs(kaplan_yorke_dimension([0.9056, 0.0, -14.572]) - 2.062) < 1e-3


def test_lyapunov_times():
    assert np.isclose(m.steps_to_lyapunov_times(100, 0.02, 0.906), 1.812)
    assert np.isnan(m.steps_to_lyapunov_times([5, 5], 0.1, [0.0, -1.0])).all()

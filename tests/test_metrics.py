"""Metrics against independent formulas, written as loops, on random windows; what is undefined; what is refused."""

import numpy as np
import pytest

from chronos_dysts import metrics as m

LEVELS = (0.1, 0.25, 0.5, 0.9)


def windows(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 5, size=rng.integers(1, 3))) + (int(rng.integers(2, 40)),)
    scale = 10.0 ** rng.uniform(-4, 4)
    return rng, scale * rng.normal(size=shape), scale * rng.normal(size=shape)


def rows_of(*arrays):
    "The series of each array one by one, the last axes flattened away."
    return zip(*(a.reshape(-1, a.shape[-1]) for a in arrays))


def loop(function, *arrays):
    return np.array([function(*rows) for rows in rows_of(*arrays)]).reshape(arrays[0].shape[:-1])


@pytest.mark.parametrize("seed", range(25))
def test_pointwise_errors_are_those_of_a_loop(seed):
    _, y, f = windows(seed)
    assert np.allclose(m.mae(y, f), loop(lambda a, b: sum(abs(p - q) for p, q in zip(a, b)) / len(a), y, f), rtol=1e-12)
    assert np.allclose(m.rmse(y, f), loop(lambda a, b: (sum((p - q) ** 2 for p, q in zip(a, b)) / len(a)) ** 0.5, y, f), rtol=1e-12)
    assert np.allclose(m.smape200(y, f), loop(lambda a, b: 200 / len(a) * sum(abs(p - q) / (abs(p) + abs(q)) for p, q in zip(a, b)), y, f), rtol=1e-12)
    assert np.allclose(m.smape100(y, f), m.smape200(y, f) / 2, rtol=1e-15)
    assert np.allclose(m.nrmse(y, f), loop(lambda a, b: np.sqrt(np.mean((a - b) ** 2) / np.var(a)), y, f), rtol=1e-12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("season", (1, 3))
def test_mase_is_that_of_a_loop(seed, season):
    rng, y, f = windows(seed)
    context = rng.normal(size=(*y.shape[:-1], 12))
    naive = lambda c: sum(abs(c[i] - c[i - season]) for i in range(season, len(c))) / (len(c) - season)
    expected = loop(lambda a, b: np.abs(a - b).mean(), y, f) / loop(naive, context)
    assert np.allclose(m.mase(y, f, context, season), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_quantile_loss_and_wql_are_those_of_a_loop(seed):
    rng, y, _ = windows(seed)
    q = np.sort(rng.normal(size=(*y.shape, len(LEVELS))), axis=-1)

    def pinball(a, b):
        return 2 * np.mean([[level * (t - v) if t >= v else (1 - level) * (v - t) for level, v in zip(LEVELS, row)] for t, row in zip(a, b)])

    expected = np.array([pinball(a, b) for a, b in zip(y.reshape(-1, y.shape[-1]), q.reshape(-1, *q.shape[-2:]))]).reshape(y.shape[:-1])
    assert np.allclose(m.quantile_loss(y, q, LEVELS), expected, rtol=1e-12)
    assert np.allclose(m.wql(y, q, LEVELS), expected / np.abs(y).mean(-1), rtol=1e-12)


def test_quantile_loss_is_smallest_for_the_true_quantile():
    y = np.random.default_rng(0).normal(size=20_000)
    guesses = np.linspace(-2.5, 2.5, 51)
    for level in (0.1, 0.5, 0.9):
        losses = [m.quantile_loss(y, np.full((len(y), 1), g), [level]) for g in guesses]
        assert abs(guesses[np.argmin(losses)] - np.quantile(y, level)) <= 0.11


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("threshold", (0.1, 0.4, 1.5))
def test_valid_prediction_times_are_those_of_a_loop(seed, threshold):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(6, 3, 30))
    f = y + np.exp(rng.uniform(-6, 0, size=(6, 1, 1)) + 0.2 * np.arange(30)) * rng.normal(size=(6, 3, 1))
    scale = rng.uniform(0.5, 2, size=(6, 3))
    normalised, running = m.valid_prediction_time(y, f, scale, threshold), m.valid_prediction_time_smape200(y, f, 50 * threshold)
    for b in range(6):
        first = next((t for t in range(30) if np.sqrt(np.mean(((f[b, :, t] - y[b, :, t]) / scale[b]) ** 2)) > threshold), 30)
        assert normalised[b] == first
        smape = [200 * np.mean(np.abs(f[b, :, :t] - y[b, :, :t]) / (np.abs(f[b, :, :t]) + np.abs(y[b, :, :t]))) for t in range(1, 31)]
        assert running[b] == next((t for t in range(30) if smape[t] > 50 * threshold), 30)


def test_a_forecast_equal_to_the_truth_is_perfect():
    y = np.random.default_rng(1).normal(size=(5, 2, 50))
    for metric in (m.mae, m.rmse, m.nrmse, m.smape100, m.smape200):
        assert np.all(metric(y, y) == 0)
    assert np.all(m.valid_prediction_time(y, y) == 50) and np.all(m.valid_prediction_time_smape200(y, y) == 50)
    assert np.all(m.coverage(y, y, y) == 1)


@pytest.mark.parametrize("factor", (1e-8, 3.0, 1e8))
def test_units_cancel_where_they_should(factor):
    rng = np.random.default_rng(2)
    y, f, context = rng.normal(size=(3, 4, 2, 60))
    for metric in (m.smape100, m.nrmse, lambda a, b: m.mase(a, b, a), m.valid_prediction_time):
        assert np.allclose(metric(factor * y, factor * f), metric(y, f), rtol=1e-9)
    assert np.allclose(m.mae(factor * y, factor * f), factor * m.mae(y, f), rtol=1e-12)


def test_what_is_undefined_is_nan_for_that_window_only():
    y, f = np.random.default_rng(3).normal(size=(2, 3, 2, 20))
    y[1] = 0.0
    assert np.isnan(m.nrmse(y, f)).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert np.isnan(m.wql(y, f[..., None], [0.5])).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert np.isnan(m.mase(y, f, y)).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert np.isnan(m.valid_prediction_time(y, f)).tolist() == [False, True, False]
    y[2, 0, 5] = np.nan
    for value in (m.mae(y, f), m.smape100(y, f), m.coverage(y, f, f)):
        assert np.isnan(value[2, 0]) and not np.isnan(value[2, 1])
    assert np.isnan(m.valid_prediction_time(y, f, np.ones(2))[2]) and np.isnan(m.valid_prediction_time_smape200(y, f)[2])


def test_a_forecast_that_blows_up_is_bad_and_not_undefined():
    y = np.random.default_rng(4).normal(size=(1, 2, 40))
    f = y.copy()
    f[..., 10:] = np.inf
    assert m.valid_prediction_time(y, f)[0] == 10 and np.all(np.isinf(m.mae(y, f))) and np.allclose(m.smape100(y, f), 75)
    q = np.repeat(f[..., None], 3, -1)
    assert np.all(m.quantile_loss(y, q, (0.1, 0.5, 0.9)) == np.inf) and np.all(m.quantile_loss(y, -q, (0.1, 0.5, 0.9)) == np.inf)
    assert m.quantile_loss(y[0, 0], q[0, 0], (0.1, 0.5, 0.9)) == np.inf and np.isnan(m.quantile_loss(y[0, 0], np.full_like(q[0, 0], np.nan), (0.1, 0.5, 0.9)))
    f[..., 7:] = np.nan
    assert m.valid_prediction_time(y, f, np.ones((1, 2)))[0] == 7 and m.valid_prediction_time_smape200(y, f)[0] == 7
    huge = np.full_like(y, 1e300)
    with np.errstate(all="raise"):  # no warnings leak either
        assert np.all(np.isinf(m.rmse(y, huge))) and np.allclose(m.smape100(y, huge), 100)


def test_no_warning_is_emitted(recwarn):
    test_what_is_undefined_is_nan_for_that_window_only()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


@pytest.mark.parametrize("call, said", [
    (lambda y: m.mae(y, y[:, :-1]), "same shape"),
    (lambda y: m.mae(y[:, :0], y[:, :0]), "no steps"),
    (lambda y: m.mae(y[0, 0], y[0, 0]), "no steps"),
    (lambda y: m.wql(y, y, LEVELS), "quantiles must have the shape"),
    (lambda y: m.mase(y, y, y, season=20), "season must lie between 1"),
    (lambda y: m.valid_prediction_time(y[0], y[0]), "needs the shape"),
    (lambda y: m.coverage(y, y, y[:, :3]), "same shape"),
])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call(np.random.default_rng(0).normal(size=(3, 20)))


def test_periods():
    assert m.steps_to_periods(250, dt=0.02, period=2.5) == 2


# ---- attractors ----


@pytest.mark.parametrize("dim", [1, 3, 10])
def test_the_divergence_in_state_space_is_that_of_whole_histograms(dim):
    rng, bins = np.random.default_rng(dim), 4 if dim < 10 else 2
    truth, sample = rng.normal(size=(dim, 400)), 0.3 + 0.7 * rng.normal(size=(dim, 300))
    low, high = truth.min(1), truth.max(1)
    edges = [np.linspace(a, b, bins + 1) for a, b in zip(low, high)]
    p, q = (np.histogramdd(x.T, bins=edges)[0] + 1e-5 for x in (truth, sample))
    p, q = p / (400 + 1e-5 * p.size), q / (300 + 1e-5 * q.size)  # what lies outside is counted and missed
    np.testing.assert_allclose(m.state_space_divergence(truth, sample, bins=bins), (p * np.log(p / q)).sum(), rtol=1e-9)


def test_attractor_metrics_take_batches_and_name_what_they_cannot_do():
    rng = np.random.default_rng(0)
    truth, sample = rng.normal(size=(2, 4, 3, 500)), rng.normal(size=(2, 4, 3, 500))
    truth[1, 2, 1] = 7.0  # a constant coordinate
    sample[0, 1, 0, 3] = np.nan
    for metric in (m.state_space_divergence, m.spectral_hellinger_distance):
        values = metric(truth, sample)
        assert values.shape == (2, 4) and np.argwhere(np.isnan(values)).tolist() == [[0, 1], [1, 2]]
        assert values[1, 3] == metric(truth[1, 3], sample[1, 3])
        with pytest.raises(ValueError, match="shape"):
            metric(truth, sample[:, :, :2])
    with pytest.raises(ValueError, match="more than 200 steps"):
        m.correlation_dimension(truth[..., :150])


@pytest.mark.parametrize("dim, expected", [(1, 1.0), (2, 2.0), (3, 3.0)])
def test_the_correlation_dimension_of_a_cube_is_its_dimension(dim, expected):
    x = np.random.default_rng(dim).uniform(size=(4, dim, 5000))
    np.testing.assert_allclose(m.correlation_dimension(x), expected, rtol=0.1)


def test_spectra_at_other_frequencies_are_apart():
    t = np.arange(4000)
    tone = lambda omega: np.sin(omega * t + np.array([[0.3], [1.0]]))
    assert m.spectral_hellinger_distance(tone(0.5), 3 * tone(0.5) + 1) < 1e-3
    assert m.spectral_hellinger_distance(tone(0.5), tone(0.8)) > 0.95

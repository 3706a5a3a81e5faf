"""The answer of a forecaster: what fits together, what is refused, and that chunking leaves no trace."""

import numpy as np
import pytest
import torch

from chronos_dysts.forecasting import LEVELS, Forecast, Forecaster, Standardiser, check_context, check_prediction_length, forecast_in_chunks


class Echo:
    "The last steps of the context, backwards, with their quantiles: depends on everything it is given."
    name = "echo"

    def __init__(self): self.sizes = []

    def forecast(self, context, prediction_length):
        self.sizes.append(len(context))
        return Forecast.from_point(context[..., ::-1][..., :prediction_length])


@pytest.mark.parametrize("seed", range(10))
def test_quantiles_of_samples_are_numpys_quantiles(seed):
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(3, int(rng.integers(1, 40)), 2, 7))
    forecast = Forecast.from_samples(samples)
    for b, d, t in np.ndindex(3, 2, 7):
        assert np.allclose(forecast.quantiles[b, d, t], [np.quantile(samples[b, :, d, t], level) for level in LEVELS])
        assert np.isclose(forecast.median[b, d, t], np.median(samples[b, :, d, t]))
    assert forecast.samples.shape == samples.shape


@pytest.mark.parametrize("levels", [LEVELS, (0.5,), (0.01, 0.5, 0.99), tuple(np.round(np.arange(1, 22) / 22, 6))])
def test_median_is_the_quantile_of_one_half(levels):
    quantiles = np.sort(np.random.default_rng(0).normal(size=(2, 3, 5, len(levels))), axis=-1)
    assert np.allclose(Forecast.from_quantiles(quantiles, levels).median, [[[np.interp(0.5, levels, q) for q in x] for x in y] for y in quantiles])


def test_levels_given_in_single_precision_still_hold_a_median():
    levels = torch.arange(1, 10, dtype=torch.float32) / 10
    quantiles = torch.randn(2, 1, 4, 9)
    assert np.array_equal(Forecast.from_quantiles(quantiles, levels.tolist()).median, quantiles[..., 4].numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_torch_tensors_of_any_precision_are_taken(dtype):
    x = torch.randn(2, 3, 8).to(dtype).requires_grad_()
    assert np.array_equal(check_context(x, 4), x.detach().double().numpy())
    assert Forecast.from_point(x).median.dtype in (np.float32, np.float64)


def test_parts_that_do_not_fit_are_refused():
    median = np.zeros((2, 3, 4))
    for bad in (dict(quantiles=np.zeros((2, 3, 5, 9))), dict(quantiles=np.zeros((2, 3, 4, 3))), dict(quantiles=np.zeros((2, 3, 4, 9)), samples=np.zeros((2, 5, 4, 3)))):
        with pytest.raises(ValueError, match="do not fit a median"):
            Forecast(median, **bad)
    for levels in ((0.5, 0.1), (0.0, 0.5), (), (0.5, 0.5)):
        with pytest.raises(ValueError, match="quantile levels must increase"):
            Forecast.from_point(median, levels)
    with pytest.raises(ValueError, match="no sample paths"):
        Forecast.from_samples(np.zeros((2, 0, 3, 4)))


def test_windows_of_a_forecast_can_be_taken_and_put_together():
    forecast = Forecast.from_samples(np.random.default_rng(0).normal(size=(6, 5, 2, 4)))
    again = Forecast.concatenate([forecast[:2], forecast[2:5], forecast[np.array([5])]])
    for name in ("median", "quantiles", "samples"):
        assert np.array_equal(getattr(again, name), getattr(forecast, name))
    assert len(forecast[-1]) == 1 and np.array_equal(forecast[-1].median, forecast.median[-1:])
    assert len(forecast) == 6 and forecast.prediction_length == 4


def test_a_point_forecast_says_so_even_where_it_is_nan():
    assert Forecast.from_point(np.full((1, 1, 3), np.nan)).is_point
    assert not Forecast.from_samples(np.random.default_rng(0).normal(size=(1, 5, 1, 3))).is_point


@pytest.mark.parametrize("context, said", [
    (np.zeros(8), r"context\[None, None\]"), (np.zeros((3, 8)), r"context\[None\]"), (np.zeros((1, 1, 3, 8)), "3 axes"), (np.zeros((0, 3, 8)), "empty axis"), (np.zeros((2, 3, 0)), "empty axis"),
    (np.array([[["x"]]]), "real numbers"), (np.zeros((1, 1, 4), complex), "real numbers"), (np.where(np.arange(24).reshape(2, 3, 4) == 17, np.nan, 0), "window 1, coordinate 1, step 1"),
    (np.where(np.arange(24).reshape(2, 3, 4) == 5, np.inf, 0), "window 0, coordinate 1, step 1"), (None, "real numbers|3 axes")])
def test_contexts_that_make_no_sense_are_named(context, said):
    with pytest.raises(ValueError, match=said):
        check_context(context, 4)


@pytest.mark.parametrize("length", [0, -1, 2.5, "8", None, True, float("nan")])
def test_prediction_lengths_that_make_no_sense_are_refused(length):
    with pytest.raises(ValueError, match="prediction_length must be a whole number"):
        check_prediction_length(length)
    assert check_prediction_length(np.int64(3)) == 3


@pytest.mark.parametrize("budget", [1, 500, 5_000, 1 << 22])
def test_chunks_change_nothing(budget):
    context = np.random.default_rng(0).normal(size=(37, 2, 20))
    forecaster, done = Echo(), []
    assert isinstance(forecaster, Forecaster)
    parts = list(forecast_in_chunks(forecaster, context, 10, chunk_values=budget, progress=done.append))
    assert np.array_equal(Forecast.concatenate([f for _, f in parts]).median, context[..., ::-1][..., :10])
    assert [i for s, _ in parts for i in range(s.start, s.stop)] == list(range(37)) and done[-1] == 37
    assert max(forecaster.sizes) <= max(1, budget // (2 * (20 + 100)))


def test_what_a_forecaster_returns_is_looked_at():
    class Wrong:
        name = "wrong"
        def __init__(self, answer): self.answer = answer
        def forecast(self, context, prediction_length): return self.answer
    for answer in (None, np.zeros((4, 2, 8)), Forecast.from_point(np.zeros((4, 2, 7)))):
        with pytest.raises(ValueError, match="forecaster 'wrong' returned"):
            list(forecast_in_chunks(Wrong(answer), np.zeros((4, 2, 16)), 8))


@pytest.mark.parametrize("seed", range(10))
def test_standardiser_inverts_itself_and_finds_constants(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, 3, 50)) * 10.0 ** rng.uniform(-5, 5, size=(4, 3, 1)) + rng.normal(size=(4, 3, 1))
    constant = rng.random((4, 3)) < 0.3
    x[constant] = x[constant][:, :1].astype(np.float32)
    units = Standardiser.of(x)
    assert np.array_equal(units.constant[..., 0], constant)
    assert np.allclose(units.invert(units.apply(x)), x, rtol=1e-9)
    assert np.allclose(units.apply(x)[~constant].std(-1), 1)

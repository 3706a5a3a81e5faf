"""Baselines against definitions written as loops over windows and lags."""

import numpy as np
import pytest
import torch

from chronos_dysts.baselines import BASELINES, ContextMean, ContextParroting, Persistence, decorrelation_lag, get_baseline, lag_distances
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


def test_the_chosen_motif_length_is_chosen_on_the_context_alone_and_wins_there():
    context = context_of(3, (30, 3, 200))
    parrot = ContextParroting()
    lags, motifs = parrot.neighbours(context, 40)
    assert set(motifs) <= set(parrot.motif_lengths) and len(set(motifs)) > 1
    for window, lag, motif in zip(context, lags, motifs):
        fixed = ContextParroting(int(motif), exclude=int(min(decorrelation_lag(window[None])[0], 50)))
        assert fixed.neighbours(window[None], 40)[0] == lag


def test_windows_do_not_see_each_other_and_units_do_not_matter():
    context = context_of(5, (40, 3, 128))
    for baseline in (make() for make in BASELINES.values()):
        together = baseline.forecast(context, 50)
        assert together.is_point and isinstance(baseline, Forecaster)
        assert np.array_equal(together.median[11:13], baseline.forecast(context[11:13], 50).median)
        scale, shift = np.array([[2.0 ** -9], [1.0], [2.0 ** 9]]), np.array([[0.0], [4.0], [-32.0]])
        assert np.allclose(baseline.forecast(context * scale + shift, 50).median, together.median * scale + shift)
        assert np.array_equal(baseline.forecast(torch.from_numpy(context), 50).median, together.median)


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
    (lambda: get_baseline("persistance"), "did you mean 'persistence'")])
def test_bad_input_is_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_decorrelation_of_a_cosine_is_its_phase_of_one_over_e():
    wave = np.cos(2 * np.pi * np.arange(5000) / 100)[None, None]
    assert abs(decorrelation_lag(wave)[0] - 100 * np.arccos(1 / np.e) / (2 * np.pi)) <= 1

"""Figures: what they show is what they were given; nothing leaks; bad input is named."""

import matplotlib
import numpy as np
import pytest

from chronos_dysts import plots

X = np.random.default_rng(0).normal(size=(3, 200)).cumsum(-1)


def figures():
    yield plots.plot_trajectory(X, dt=0.1)
    yield plots.plot_trajectory({"before": X, "after": X[:, :100]}, dt=0.1, period=3.0, title="t")
    for dim in (1, 2, 3): yield plots.plot_attractor(X[:dim])
    yield plots.plot_attractor({"a": X, "b": X + 1})
    yield plots.plot_forecast(X[:, :100], X[:, 100:120], {"m": X[:, 101:121], "mean": X[:, :20]}, {"m": (X[:, 100:120] - 1, X[:, 100:120] + 1)})
    yield plots.plot_forecast(X[:1, :100], None, {"m": X[:1, 100:120]})
    yield plots.plot_skill([8, 16], {"m": [1, 2], "parroting": [2, np.nan]}, {"m": ([0.5, 1], [2, 3])}, reference=(1.0, "mean"))
    yield plots.plot_spectra({"truth": X, "m": X[:, ::-1]}, points_per_period=20)
    for dim in (1, 2, 3): yield plots.plot_portrait(X[:dim], points_per_period=20, title="t")
    yield plots.plot_portrait(np.full((3, 50), np.nan), points_per_period=20)
    yield plots.plot_fan(X[:, :100], X[:, 100:120, None] + np.arange(-2, 3), (0.1, 0.25, 0.5, 0.75, 0.9), X[:, 100:120])
    for dim in (2, 3): yield plots.plot_flights({"a": (X[:dim], X[:dim, :100], X[:dim, 100:120], X[:dim, 101:121])}, points_per_period=20)
    yield plots.plot_flights({name: (X, X[:, :100], X[:, 100:120], X[:, 101:121]) for name in "ab"}, points_per_period=20, valid={"a": 3, "b": 20})
    yield plots.plot_ranks({"m": X[0], "parroting": X[1], "c": X[2]})
    yield plots.plot_eigenvalues(np.exp(1j * np.arange(5)))
    yield plots.plot_embedding(X[:2].T, X[2], label="z")
    yield plots.plot_embedding(X[:2].T, np.arange(200) % 11, label="steps")
    yield plots.plot_embedding(X[:2].T, [f"flow {k % 11}" for k in range(200)])
    yield plots.plot_embedding(X[:2].T)
    yield plots.plot_gallery([("a", X), ("b", X[:1]), ("", [X, X + 1])], columns=2)
    yield plots.plot_systems(["A", "B"], {"m": [1, np.nan], "parroting": [2, 3]})


def test_every_figure_draws_in_both_formats_and_leaks_nothing():
    before, open_figures = dict(matplotlib.rcParams), matplotlib._pylab_helpers.Gcf.get_num_fig_managers() if hasattr(matplotlib, "_pylab_helpers") else 0
    for figure in figures():
        assert figure._repr_png_().startswith(b"\x89PNG")
        svg = plots.to_svg(figure)
        assert svg.startswith("<svg") and plots.INK not in svg and "metadata" not in svg and "http" not in svg.split(">", 1)[1].replace("http://www.w3.org", "")
        assert all(ax.get_xlabel() or ax.get_ylabel() or ax.get_title(loc="left") for ax in figure.axes[-1:] if ax.axison)
    assert dict(matplotlib.rcParams) == before and open_figures == (matplotlib._pylab_helpers.Gcf.get_num_fig_managers() if hasattr(matplotlib, "_pylab_helpers") else 0)


def test_axes_of_time_name_their_unit():
    labels = [plots.plot_trajectory(X, **times).axes[-1].get_xlabel() for times in ({}, {"dt": 0.1}, {"dt": 0.1, "period": 2.0})]
    assert labels == ["time (steps)", "time (units of the flow)", "time (dominant periods)"]
    assert plots.plot_trajectory(X, dt=0.1, period=2.0).axes[0].lines[0].get_xdata()[-1] == pytest.approx(199 * 0.1 / 2)


def test_forecast_shows_what_it_was_given():
    figure = plots.plot_forecast(X[:, :100], X[:, 100:120], {"m": X[:, 101:121]}, context_shown=30)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    assert np.array_equal(lines["context"], X[1, 70:100]) and np.array_equal(lines["truth"][1:], X[1, 100:120]) and np.array_equal(lines["m"][1:], X[1, 101:121])


def test_flights_show_what_they_were_given():
    figure = plots.plot_flights({"a": (X, X[:, :100], X[:, 100:120], X[:, 101:121])}, points_per_period=10, valid={"a": 20})
    space, time = figure.axes
    assert np.array_equal(np.array(space.lines[2].get_data_3d()), X[:, [99, *range(101, 121)]]) and np.array_equal(time.lines[2].get_ydata(), X[0, 99:120])
    assert time.get_title(loc="left") == "a: valid for 2.0 periods or more" and time.lines[2].get_xdata()[-1] == 2
    with pytest.raises(ValueError, match="'a': .* do not fit together"):
        plots.plot_flights({"a": (X, X[:, :100], X[:, 100:120], X[:, 101:120])}, points_per_period=10)


def test_a_forecast_that_runs_away_does_not_flatten_the_rest():
    figure = plots.plot_forecast(X[:, :100], X[:, 100:120], {"m": 1e9 * X[:, 101:121]})
    assert all(np.ptp(ax.get_ylim()) < 1e3 for ax in figure.axes)


def test_baselines_look_the_same_in_every_figure():
    one, other = plots.palette(["a", "parroting", "mean"]), plots.palette(["parroting", "b", "c", "a"])
    assert one["parroting"]["color"] == other["parroting"]["color"] and len({look["color"] for look in other.values()}) == 4
    assert len({look["marker"] for look in other.values()}) == 4


def test_a_spectrum_is_a_share_of_the_power_and_knows_lines_and_units():
    t = np.arange(4000)
    wave = np.stack([np.sin(2 * np.pi * t / 50), 100 + 9 * np.cos(2 * np.pi * t / 50), np.full(4000, 3.0)])
    frequency, power = plots.power_spectrum(wave, points_per_unit=100)
    assert np.isclose(power.sum(), 1) and frequency[power.argmax()] == pytest.approx(2.0), "two cycles in a hundred points; what does not move does not count"
    assert np.isnan(plots.power_spectrum(np.ones((2, 64)))[1]).all()
    slope = np.polyfit(*np.log([a[5:200] for a in plots.power_spectrum(np.random.default_rng(1).normal(size=(8, 8192)).cumsum(-1))]), 1)[0]
    assert slope == pytest.approx(-2, abs=0.25), "Brownian motion"


def test_ranks_are_those_of_scipy_and_systems_with_gaps_are_left_out():
    from scipy.stats import friedmanchisquare, rankdata

    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=30), "b": rng.normal(size=30) + 2, "c": rng.normal(size=30) + 0.1}
    values["b"][3] = np.nan
    ranks, critical, n = plots.mean_ranks(values)
    whole = np.array([np.delete(v, 3) for v in values.values()])
    assert n == 29 and list(ranks)[-1] == "b" and ranks["b"] == pytest.approx(rankdata(whole, axis=0).mean(1)[1])
    assert ranks["b"] - ranks["a"] > critical and friedmanchisquare(*whole).pvalue < 0.01
    assert plots.mean_ranks({"a": [1, 1, 1], "b": [1, 1, 1]})[0] == {"a": 1.5, "b": 1.5}
    assert critical == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 29)), rel=1e-3), "q of Demšar's table for three at 0.05"


def test_bars_join_those_that_are_not_told_apart():
    figure = plots.plot_ranks({"a": np.zeros(40), "b": np.ones(40), "c": np.full(40, 2.0)})
    assert not [line for line in figure.axes[0].lines if line.get_linewidth() == 3], "all differ"
    rng = np.random.default_rng(0)
    figure = plots.plot_ranks({name: rng.normal(size=40) for name in "abc"})
    assert len([line for line in figure.axes[0].lines if line.get_linewidth() == 3]) == 1


def test_a_fan_shows_its_quantiles():
    q = X[:, 100:120, None] + np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    figure = plots.plot_fan(X[:, :100], q, (0.1, 0.25, 0.5, 0.75, 0.9))
    outer = figure.axes[0].collections[0].get_paths()[0].vertices
    assert outer[:, 1].min() == pytest.approx(q[0, :, 0].min()) and outer[:, 1].max() == pytest.approx(q[0, :, -1].max())
    assert np.array_equal({line.get_label(): line for line in figure.axes[0].lines}["median"].get_ydata(), q[0, :, 2])


@pytest.mark.parametrize("call, said", [
    (lambda: plots.power_spectrum(X[:, :10]), "16 points"), (lambda: plots.mean_ranks({"a": [1, 2]}), "two forecasters"), (lambda: plots.plot_eigenvalues([]), "no eigenvalues"),
    (lambda: plots.plot_embedding(X), r"\(n, 2\)"), (lambda: plots.plot_embedding(X[:2].T, [1]), "as many values"), (lambda: plots.plot_fan(X, X[:, :5, None], (0.1, 0.9)), "do not fit"),
    (lambda: plots.plot_trajectory(np.zeros((2, 3, 4))), r"\(dim, time\)"), (lambda: plots.plot_trajectory({}), "no trajectory"), (lambda: plots.plot_trajectory(X, names=["a"]), "1 names for 3"),
    (lambda: plots.plot_forecast(X, X[:2], {"m": X}), "do not fit"), (lambda: plots.plot_skill([1, 2], {"m": [1]}), "2 horizons"), (lambda: plots.plot_systems(["a"], {"m": [1, 2]}), "1 systems")])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_gallery_draws_what_it_was_given_and_refuses_nothing_at_all():
    figure = plots.plot_gallery([("a", X), ("b", X[:1]), ("c", [X, X + 1])], columns=2, coordinates=(0, 1))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a", "b", "c", ""] and [len(ax.lines) for ax in figure.axes] == [1, 1, 2, 0]
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), X[1]) and np.array_equal(figure.axes[1].lines[0].get_ydata(), X[0])
    with pytest.raises(ValueError, match="at least one trajectory"):
        plots.plot_gallery([])

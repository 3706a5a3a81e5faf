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
    yield plots.plot_systems(["A", "B"], {"m": [1, np.nan], "parroting": [2, 3]})


def test_every_figure_draws_in_both_formats_and_leaks_nothing():
    before, open_figures = dict(matplotlib.rcParams), matplotlib._pylab_helpers.Gcf.get_num_fig_managers() if hasattr(matplotlib, "_pylab_helpers") else 0
    for figure in figures():
        assert figure._repr_png_().startswith(b"\x89PNG")
        svg = plots.to_svg(figure)
        assert svg.startswith("<svg") and plots.INK not in svg and "metadata" not in svg and "http" not in svg.split(">", 1)[1].replace("http://www.w3.org", "")
        assert all(ax.get_xlabel() for ax in figure.axes[-1:])
    assert dict(matplotlib.rcParams) == before and open_figures == (matplotlib._pylab_helpers.Gcf.get_num_fig_managers() if hasattr(matplotlib, "_pylab_helpers") else 0)


def test_axes_of_time_name_their_unit():
    labels = [plots.plot_trajectory(X, **times).axes[-1].get_xlabel() for times in ({}, {"dt": 0.1}, {"dt": 0.1, "period": 2.0})]
    assert labels == ["time (steps)", "time (units of the flow)", "time (dominant periods)"]
    assert plots.plot_trajectory(X, dt=0.1, period=2.0).axes[0].lines[0].get_xdata()[-1] == pytest.approx(199 * 0.1 / 2)


def test_forecast_shows_what_it_was_given():
    figure = plots.plot_forecast(X[:, :100], X[:, 100:120], {"m": X[:, 101:121]}, context_shown=30)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    assert np.array_equal(lines["context"], X[1, 70:100]) and np.array_equal(lines["truth"][1:], X[1, 100:120]) and np.array_equal(lines["m"][1:], X[1, 101:121])


def test_a_forecast_that_runs_away_does_not_flatten_the_rest():
    figure = plots.plot_forecast(X[:, :100], X[:, 100:120], {"m": 1e9 * X[:, 101:121]})
    assert all(np.ptp(ax.get_ylim()) < 1e3 for ax in figure.axes)


def test_baselines_look_the_same_in_every_figure():
    one, other = plots.palette(["a", "parroting", "mean"]), plots.palette(["parroting", "b", "c", "a"])
    assert one["parroting"]["color"] == other["parroting"]["color"] and len({look["color"] for look in other.values()}) == 4
    assert len({look["marker"] for look in other.values()}) == 4


@pytest.mark.parametrize("call, said", [
    (lambda: plots.plot_trajectory(np.zeros((2, 3, 4))), r"\(dim, time\)"), (lambda: plots.plot_trajectory({}), "no trajectory"), (lambda: plots.plot_trajectory(X, names=["a"]), "1 names for 3"),
    (lambda: plots.plot_forecast(X, X[:2], {"m": X}), "do not fit"), (lambda: plots.plot_skill([1, 2], {"m": [1]}), "2 horizons"), (lambda: plots.plot_systems(["a"], {"m": [1, 2]}), "1 systems")])
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()

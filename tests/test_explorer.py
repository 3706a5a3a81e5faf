"""The explorers without a browser: their widgets' callbacks are driven, and what is drawn is what was computed."""

import io
import statistics

import numpy as np
import pytest
from PIL import Image

from chronos_dysts import embedding_explorer, explorer, plots
from chronos_dysts.forecasting import Forecast
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.systems import get_system


@pytest.fixture(scope="module")
def system():
    return explorer.SystemExplorer("Lorenz")


@pytest.fixture(scope="module")
def augmentation():
    return explorer.AugmentationExplorer("Rossler")


@pytest.fixture(scope="module")
def forecast():
    return explorer.ForecastExplorer("Lorenz", ["parroting", "persistence"])


def pixels(each):
    return np.asarray(Image.open(io.BytesIO(each._image.value)).convert("RGB")).astype(int)


# ---- the canvas ----


def test_a_frame_on_a_kept_background_is_the_figure_drawn_anew():
    """Through changes of data, of limits, of labels."""

    def frame(canvas, ax, line, x, y):
        line.set_data(x, y)
        canvas.fit(ax, x, y)
        if ax.get_xlabel() != (label := f"up to {max(x):.0f}"):
            ax.set_xlabel(label)
            canvas.changed(ax)
        return np.asarray(Image.open(io.BytesIO(canvas.png())).convert("RGB")).astype(int)

    def parts():
        canvas = explorer.Canvas(5, 3)
        axes = [canvas.axes(0.16, 0.2, 0.3, 0.7, ylabel="a"), canvas.axes(0.66, 0.2, 0.3, 0.7, ylabel="b")]
        return canvas, axes, [canvas.line(ax, color=plots.INK) for ax in axes]

    kept, axes, lines = parts()
    rng = np.random.default_rng(0)
    for reach in (1, 1, 30, 28, 0.01, 4000):
        x, y = np.arange(50) * reach, rng.normal(size=50) * reach
        now = frame(kept, axes[1], lines[1], x, y)
        fresh, others, moving = parts()
        others[1].set_xlim(axes[1].get_xlim()), others[1].set_ylim(axes[1].get_ylim())
        assert np.array_equal(now, frame(fresh, others[1], moving[1], x, y)), reach
    assert kept.redrawn == 1, "only the axes concerned were drawn again"


def test_nothing_is_left_behind_where_labels_were_longer():
    """A flow that comes to rest and moves again has wide tick labels in between."""
    each = explorer.SystemExplorer("Lorenz")
    for rho in (15, 32):
        each.move(rho=rho)
        kept = pixels(each)
        each.canvas.changed()
        each._react(lambda: None)
        assert np.array_equal(kept, pixels(each)), rho


def test_one_hand_at_a_time(monkeypatch):
    """JupyterLab calls widgets from several threads: a canvas that two of them drew on showed labels twice."""
    import threading
    import time

    each, busy, met = explorer.SystemExplorer("Lorenz"), [], []
    draw = each.canvas.png

    def slow():
        met.extend(busy)
        busy.append(threading.get_ident())
        time.sleep(0.02)
        frame = draw()
        busy.pop()
        return frame

    monkeypatch.setattr(each.canvas, "png", slow)
    hands = [threading.Thread(target=work) for work in (lambda: each._react(each._compute, each._judge), lambda: each.choose("HyperRossler"), lambda: setattr(each.azimuth, "value", 0), lambda: each.choose("Rossler"))]
    for hand in hands: hand.start()
    for hand in hands: hand.join(60)
    assert not any(hand.is_alive() for hand in hands) and not met
    assert each.system.name in ("HyperRossler", "Rossler") and set(each.sliders) == set(each.reference.parameter_names)


@pytest.mark.parametrize("values", [[0, 1], [-1e-9, 1e-9], [5, 5], [1e6, 1e6 + 1], [-3, 700], [np.nan, 2, np.inf, 3]])
def test_limits_hold_the_values_and_stay(values):
    limits = explorer.roomy(values, (0.0, 0.0))
    finite = np.array(values, float)[np.isfinite(values)]
    assert limits[0] < finite.min() and finite.max() < limits[1]
    assert explorer.roomy(finite, limits) == limits or np.ptp(finite) <= 0.5 * (limits[1] - limits[0])


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_three_coordinates_whatever_the_dimension(dim):
    x = np.sin(np.arange(400) * 0.05 + np.arange(dim)[:, None])
    points, names = explorer.three_coordinates(x, [f"y{i}" for i in range(dim)], (0, 1, 2) if dim < 5 else (4, 0, 2))
    assert points.shape[0] == 3 and len(set(names)) == 3
    if dim == 5:
        assert np.array_equal(points, x[[4, 0, 2]]) and names == ["y4", "y0", "y2"]
    if dim == 1:
        lag = (x.shape[1] - points.shape[1]) // 2
        assert np.array_equal(points[1][:-lag], points[0][lag:]) and np.array_equal(points[2][:-lag], points[1][lag:])


# ---- systems ----


def test_a_slider_moves_the_flow(system):
    system.choose("Lorenz").reset()
    before, drawn = pixels(system), len(system.seconds)
    system.sliders["rho"].value = 35.0
    assert system.system.params["rho"] == 35.0 and len(system.seconds) == drawn + 1
    assert np.abs(pixels(system) - before).max() > 100
    alone = integrate_ensemble(get_system("Lorenz").with_params({"rho": 35.0}), length=2001, points_per_period=100, transient=20)
    assert np.array_equal(system.trajectory, alone.observed()[0]), "what is shown is what the flow does"
    assert np.array_equal(system._shadows[0].get_xdata(), system.trajectory[0]) and np.array_equal(system._shadows[0].get_ydata(), system.trajectory[1])


@pytest.mark.parametrize(
    ("rho", "accepted", "reason"),
    [(28.0, True, ""), (10.0, False, "settled"), (160.0, False, "periodic")],  # 10: fixed points; 160: a limit cycle, in the window from 148 to 166 (Sparrow 1982)
)
def test_the_sign_says_what_the_tests_say(system, rho, accepted, reason):
    system.choose("Lorenz").move(rho=rho)
    assert (system.accepted, system.reason) == (accepted, reason)
    assert ("✓" in system._words.value) == accepted and ("rejected" in system._words.value) != accepted
    assert reason in system._words.value and (accepted or explorer.REASONS[reason] in system._words.value)
    assert (system.exponent > 0.1) == accepted
    assert repr(system).startswith("Lorenz") and (f"rho={rho:.4g}" in repr(system)) == (rho != 28)


def test_the_exponent_is_about_the_known_one(system):
    system.choose("Rossler")
    assert system.exponent == pytest.approx(0.071, abs=0.04)
    system.choose("Lorenz").reset()
    assert system.exponent == pytest.approx(0.906, abs=0.25)


def test_a_flow_that_escapes_is_said_so_and_comes_back(system):
    system.choose("Rossler").move(a=1.5)
    assert not system.accepted and system.reason == "diverged" and not system._orbit.get_visible() and "no attractor" in system._gone.get_text()
    assert system.figure()._repr_png_()
    system.reset()
    assert system.accepted and system._orbit.get_visible() and system._gone.get_text() == ""


def test_another_flow_has_its_own_sliders_and_coordinates(system):
    for name in ("Chua", "HyperRossler", "MackeyGlass", "Duffing"):
        system.choose(name)
        flow = get_system(name)
        assert set(system.sliders) <= set(flow.parameter_names) and len(system.sliders) >= len(flow.parameter_names) - len(flow.tied) - len(flow.fixed)
        assert all(slider.min <= value <= slider.max for slider, value in zip(system.sliders.values(), [v for n, v in zip(flow.parameter_names, flow.parameter_values) if n in system.sliders]))
        assert system.system == flow and system.trajectory.shape[0] == flow.observed_dim
    system.choose("HyperRossler")
    before = pixels(system)
    system.coordinates[2].value = 3
    assert np.array_equal(system._shadows[1].get_ydata(), system.trajectory[3]) and np.abs(pixels(system) - before).max() > 100


def test_the_catalogue_is_searched(system):
    system.catalogue.search.value = "hyper ro"
    assert "HyperRossler" in system.catalogue.list.options and all("hyperro" in name.lower() for name in system.catalogue.list.options)
    shown = system.system.name
    assert system.system.name == shown, "a search chooses nothing"
    system.catalogue.search.value = ""
    assert len(system.catalogue.list.options) == len(system.catalogue.names) > 130


def test_turning_computes_nothing(system):
    system.choose("Lorenz")
    kept, before = system.ensemble, pixels(system)
    system.azimuth.value = 30
    assert system.ensemble is kept and np.abs(pixels(system) - before).max() > 100


def test_bad_values_are_told(system):
    with pytest.raises(ValueError, match="Lorentz"):
        explorer.SystemExplorer("Lorentz")
    with pytest.raises(ValueError, match="rh0"):
        system.move(rh0=3)
    system.reset()
    assert system.accepted, "after a mistake it goes on"


# ---- augmentations ----


@pytest.mark.parametrize("name", explorer._KNOBS)
def test_every_augmentation_is_shown(augmentation, name):
    augmentation.augment(name, seed=1)
    first = augmentation.after
    assert type(augmentation.augmentation).__name__ == name and "cannot be done" not in augmentation._words.value
    augmentation.augment(name, seed=2)
    drawn = name not in ("Standardize", "RandomTimeReversal")
    assert (first.shape == augmentation.after.shape and not np.array_equal(first, augmentation.after, equal_nan=True)) or first.shape != augmentation.after.shape or not drawn
    augmentation.augment(name, seed=1)
    assert np.array_equal(first, augmentation.after, equal_nan=True), "the same seed, the same draw"
    for slider in augmentation.sliders.values():  # the ends of the sliders are good values, or said to be none
        for end in (slider.min, slider.max):
            slider.value = end
            assert name in augmentation._words.value or "cannot be done" in augmentation._words.value


def test_all_augmentations_of_the_package_have_an_entry():
    from chronos_dysts import augmentations as a

    kinds = {name for name in a.__all__ if isinstance(kind := getattr(a, name), type) and issubclass(kind, a.Augmentation)}
    assert set(explorer._KNOBS) == kinds - {"Augmentation", "LinearAugmentation", "Mixture"}


def test_what_is_shown_is_the_augmentation(augmentation):
    augmentation.choose("Rossler").augment("RandomTakensEmbedding", embedding_dim=2, min_lag=7, max_lag=7, seed=0)
    assert np.array_equal(augmentation.after[0][:-7], augmentation.after[1][7:])
    augmentation.augment("RandomProjectedSkewTransform", embedding_dim=4)
    assert augmentation.partner == "Lorenz" or augmentation.partner == "Rossler"
    assert augmentation.after.shape == (4, 1200) and not augmentation.mixed_with.disabled
    augmentation.augment("RandomTakensEmbedding", min_lag=30, max_lag=20)
    assert "cannot be done" in augmentation._words.value and "max_lag" in augmentation._words.value
    assert augmentation.figure()._repr_png_()


# ---- forecasts ----


class Truthful:
    """Forecasts Lorenz by knowing it, with bands of a known width; the error grows in known steps."""

    name = "oracle"

    def __init__(self, trajectory, error):
        self.trajectory, self.error = trajectory, error

    def forecast(self, context, prediction_length):
        start = int(np.flatnonzero((self.trajectory[0] == context[0, 0, -1]))[0]) + 1
        truth = self.trajectory[:, start : start + prediction_length]
        median = truth + self.error[:prediction_length] * context[0].std(-1)[:, None]
        return Forecast.from_quantiles((median[None, ..., None] + np.linspace(-1, 1, 9)), tuple(np.arange(1, 10) / 10))


def test_forecast_errors_and_the_end_of_validity(forecast):
    error = np.where(np.arange(512) < 40, 0.1, 0.9)
    both = explorer.ForecastExplorer("Lorenz", [Truthful(forecast.trajectory, error), "persistence"])
    both.place(start=700, context_length=200, prediction_length=100)
    assert both.valid_steps["oracle"] == 40 and both.valid_steps["persistence"] < 40
    assert np.allclose(both.errors["oracle"], error[:100])
    assert np.array_equal(both.known, forecast.trajectory[:, 700:900]) and np.array_equal(both.truth, forecast.trajectory[:, 900:1000])
    assert both._bands["oracle"][0][0].get_visible() and not both._bands["persistence"][0][0].get_visible()
    assert both._ends["oracle"][-1].get_xdata() == [40, 40] and "valid for 40 steps" in both._words.value
    assert both.figure()._repr_png_()


def test_the_context_moves(forecast):
    forecast.place(start=100, context_length=512, prediction_length=128)
    before = pixels(forecast)
    forecast.position.value = 900
    assert np.abs(pixels(forecast) - before).max() > 100 and forecast.start == 900
    assert np.array_equal(forecast._truths[0].get_ydata()[1:], forecast.trajectory[0, 900 + 512 : 900 + 640])
    forecast.ahead.value = 256
    assert forecast.truth.shape == (3, 256) and forecast.position.max == 4096 - 512 - 256
    with pytest.raises(ValueError, match="start"):
        forecast.place(start=4000)
    with pytest.raises(ValueError, match="parrotting"):
        explorer.ForecastExplorer("Lorenz", ["parrotting"])
    with pytest.raises(ValueError, match="nothing to forecast with"):
        explorer.ForecastExplorer("Lorenz", [])


@pytest.mark.parametrize("name", ["MackeyGlass", "Duffing", "HyperRossler"])
def test_forecasts_of_other_dimensions(forecast, name):
    forecast.choose(name)
    shown = [ax.get_visible() for ax in forecast._rows]
    assert sum(shown) == min(3, get_system(name).observed_dim) and forecast.truth.shape[0] == get_system(name).observed_dim
    forecast.choose("Lorenz")


# ---- all ----


def test_what_is_shown_holds_a_widget_and_a_still_picture(system, monkeypatch, capsys):
    shown = []
    from IPython.core import interactiveshell

    system.show()
    assert "JupyterLab" in capsys.readouterr().out, "outside of IPython a line of text"
    monkeypatch.setattr(interactiveshell.InteractiveShell, "initialized", staticmethod(lambda: True))
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    system.show()
    assert {"application/vnd.jupyter.widget-view+json", "image/png", "text/plain"} <= set(shown[0])
    import base64

    assert base64.b64decode(shown[0]["image/png"]).startswith(b"\x89PNG") and len(shown[0]["image/png"]) < 60_000


def test_every_control_has_a_name_and_the_sign_is_announced(system, augmentation, forecast):
    """What a keyboard or a screen reader goes by."""
    import ipywidgets as W

    def controls(widget):
        for child in getattr(widget, "children", ()):
            yield from controls(child)
        if isinstance(widget, (W.FloatSlider, W.IntSlider, W.Dropdown, W.Select, W.Text, W.Button)):
            yield widget

    for each in (system, augmentation, forecast):
        found = list(controls(each.widget))
        assert len(found) >= 5 and all(control.description for control in found)
        assert "role=" in each._words.value or "<b>" in each._words.value


@pytest.mark.slow
def test_a_picture_follows_the_hand(system):
    """The promise of `benchmarks/explorer.py`, on whatever machine this is."""
    system.choose("Lorenz")
    system.seconds.clear()
    for rho in np.linspace(24, 32, 25):
        system.sliders["rho"].value = rho
    assert statistics.median(system.seconds) < 0.15


def test_a_model_is_named_and_shown_with_its_quantiles(tmp_path):
    """An untrained one: it forecasts badly, with bands."""
    from chronos_dysts import models

    models.save(models.build("chronos-bolt", "nano", context_length=128, prediction_length=16, seed=0), tmp_path / "mine", {})
    each = explorer.explore_forecast("Rossler", model_id=str(tmp_path / "mine"))
    assert list(each.forecasters) == ["mine", "parroting"] and each._bands["mine"][0][0].get_visible()
    assert each.valid_steps["mine"] < each.valid_steps["parroting"]
    assert not each.position.continuous_update, "a model moves when the slider is let go"


# ---- a map of embeddings ----


@pytest.fixture(scope="module")
def on_map(tmp_path_factory):
    """Four windows of each of three series with one, three and five coordinates, on a map that is known."""
    import pandas as pd
    import yaml

    from chronos_dysts.store import Trajectory, write_trajectory

    folder, rng, rows = tmp_path_factory.mktemp("map"), np.random.default_rng(0), []
    for k, (name, dim) in enumerate((("one", 1), ("three", 3), ("five", 5))):
        write_trajectory(Trajectory(rng.normal(size=(dim, 400)).cumsum(1).astype(np.float32), f"{name}/0", name, {}, np.zeros(dim), 0.1, 2.0, 0), folder / "data" / "test" / name / "0_T-400.arrow")
        rows += [dict(trajectory=k, system=name, item_id=f"{name}/0", start=50 * j, family="fam" if k else "other", dt=0.1, known_lyapunov=[np.nan, -1.0, 0.5][k], known_regime=[None, "chaotic", "chaotic"][k],
                      pca_x=10.0 * k + j, pca_y=float(j % 2), umap_x=-float(k), umap_y=float(j)) for j in range(4)]
    (folder / "probe").mkdir()
    pd.DataFrame(rows).to_parquet(folder / "probe" / "map.parquet")
    (folder / "probe" / "config.yaml").write_text(yaml.safe_dump(dict(data_dir=str(folder / "data"), split="test", systems=None, context_length=100, model_id="x")))
    return folder


def test_a_point_of_the_map_is_its_window(on_map):
    each = embedding_explorer.EmbeddingExplorer(on_map / "probe")
    assert each.maps == ("pca", "umap") and each.method.value == "umap"
    each.map_by("pca")
    assert each.point_at(12.1, 0.05).row == 6 and (each.system, each.start) == ("three", 100)
    assert each.window.shape == (3, 100) and np.array_equal(each.window, each.trajectory[:, 100:200])
    assert each.list.value == "three" and each.number.value == 2
    each.number.value = 0  # as the hand would
    assert each.row == 4 and each.start == 0
    each.list.value = "five"
    assert each.row == 8 and each.window.shape == (5, 100)
    each.across.value, each.up.value = 0.0, 0.0
    assert (each.row, each.system) == (0, "one") and [ax.get_visible() for ax in each._rows] == [True, False, False]
    before = pixels(each)
    each.choose("five", 3)
    assert (pixels(each) != before).any() and "five" in each._words.value and "chaotic" in each._words.value
    each.azimuth.value += 30
    assert (each.row, each.method.value) == (11, "pca")
    each.search.value = "thr"
    assert each.list.options == ("three",) and each.figure().axes


def test_colours_and_bad_values_of_the_map(on_map, tmp_path):
    each = embedding_explorer.EmbeddingExplorer(on_map / "probe")
    for name in ("system", "known_lyapunov", "known_regime", "family"):
        before = each._points.get_facecolors().copy()
        each.colour_by(name)
        after = each._points.get_facecolors()
        assert len(after) == 12 and (name == "family" or not np.array_equal(before, after))
    with pytest.raises(ValueError, match="did you mean 'three'"):
        each.choose("thre")
    with pytest.raises(ValueError, match="windows 0 to 3"):
        each.choose("three", 4)
    with pytest.raises(ValueError, match="known_lyapunov"):
        each.colour_by("lyapunov")
    with pytest.raises(FileNotFoundError, match="chronos-dysts probe embeddings"):
        embedding_explorer.EmbeddingExplorer(tmp_path)
    with pytest.raises(FileNotFoundError, match="data_dir=…"):
        embedding_explorer.EmbeddingExplorer(on_map / "probe", tmp_path / "elsewhere")
    assert repr(embedding_explorer.explore_embeddings(on_map / "probe", on_map / "data")).startswith("window 0 of 12")

"""A user's own series: what is read, what is refused, the backtest against a loop, and the command."""

import json

import numpy as np
import pandas as pd
import pytest

from chronos_dysts import cli
from chronos_dysts.baselines import ContextParroting, Persistence, Seasonal
from chronos_dysts.forecasting import LEVELS, Forecast, Series, backtest, check_context, forecast, read_series
from chronos_dysts.own_data import ForecastConfig, describe, run_forecast


@pytest.fixture
def table():
    t = np.arange(400) * 0.05
    return pd.DataFrame({"time": t, "x": np.sin(t), "y": np.cos(1.3 * t) + 2})


def same(series, table, time=True):
    assert np.allclose(series.values, table[["x", "y"]].T, rtol=1e-6, atol=1e-9)
    assert (series.times is not None) == time and (not time or abs(series.dt - 0.05) < 1e-9)


@pytest.mark.parametrize("sep", [",", ";", "\t", " "])
@pytest.mark.parametrize("header", (True, False))
@pytest.mark.parametrize("time", (True, False))
def test_text_with_and_without_header_and_time(table, tmp_path, sep, header, time):
    columns = ["time", "x", "y"] if time else ["x", "y"]
    table[columns].to_csv(tmp_path / "a.csv", sep=sep, header=header, index=False)
    series = read_series(tmp_path / "a.csv")
    same(series, table, time)
    assert series.names == (("x", "y") if header else ("column 2", "column 3") if time else ("column 1", "column 2"))


def test_other_ways_to_hand_over_the_same_numbers(table, tmp_path):
    table.to_parquet(tmp_path / "a.parquet")
    table.to_feather(tmp_path / "a.feather")
    table.to_csv(tmp_path / "comma.csv", sep=";", decimal=",", index=False)
    (tmp_path / "comments.dat").write_text("# measured on a Monday\n" + table.to_csv(sep=" ", header=False, index=False))
    for name in ("a.parquet", "a.feather", "comma.csv", "comments.dat"): same(read_series(tmp_path / name), table)
    same(read_series(table), table)
    same(read_series(table[["x", "y"]].to_numpy().T), table, time=False)
    assert read_series(table["x"]).names == ("x",) and read_series(list(table["x"])).values.shape == (1, 400)
    picked = read_series(table, columns=["y"])
    assert picked.names == ("y",) and picked.time_name == "time"
    series = read_series(table.rename(columns={"time": "seconds since noon"}))
    assert series.time_name == "seconds since noon"  # it counts evenly
    same(read_series(series), table)


def test_dates(table):
    table["time"] = pd.date_range("2020-01-31", periods=400, freq="ME").astype(str)
    series = read_series(table)
    assert series.dt is None and str(series.times_after(2)[0])[:10] == "2053-05-31" and str(series.times_after(2)[1])[:10] == "2053-06-30"
    indexed = read_series(pd.DataFrame({"x": np.arange(5.0)}, index=pd.date_range("2020", periods=5, freq="h")))
    assert indexed.names == ("x",) and indexed.times_after(1)[0] == np.datetime64("2020-01-01T05")
    zoned = read_series(pd.DataFrame({"t": pd.date_range("2020", periods=5, freq="h", tz="UTC"), "x": np.arange(5.0)}))
    assert zoned.times_after(1)[0] == np.datetime64("2020-01-01T05")


def test_arrow_data_sets(tmp_path):
    from chronos_dysts.store import Trajectory, write_trajectory

    made = [Trajectory(np.random.default_rng(k).normal(size=(3, 50)).astype(np.float32), f"item-{k}", "Lorenz", {}, np.zeros(3), 0.1, 1.0, 0) for k in range(2)]
    one, both = write_trajectory(made[0], tmp_path / "one.arrow"), write_trajectory(made, tmp_path / "both.arrow")
    assert np.array_equal(read_series(one).values, made[0].target)
    assert np.array_equal(read_series(both, item="item-1").values, made[1].target) and np.array_equal(read_series(both, item=1).values, made[1].target)
    with pytest.raises(ValueError, match="holds 2 series: say which"): read_series(both)
    with pytest.raises(ValueError, match="no series 'item-7'"): read_series(both, item="item-7")


@pytest.mark.parametrize("text, said", [
    ("t,x\n0,1\n1,2\n2,3\n4,4\n", "irregular: most steps are 1, but from row 3 to row 4 it is 2"), ("t,x\n0,1\n2,2\n1,3\n", "do not increase: 2 in row 2"), ("t,x\n0,1\n1,\n2,3\n", "'x' has 1 missing or infinite values, the first in row 2"),
    ("x,mood\n1,good\n2,bad\n", r"'mood' holds text \('good' in row 1\)"), ("", "is empty"), ("x\n1\ninf\n", "missing or infinite"), ("when,x\nnoon,1\nnight,2\n", "'when' holds text"),
    ("date,x\n2020-01-01,1\n2020-01-02,2\n2020-01-03,3\n2020-01-09,4\n2020-01-10,4\n", "irregular"), ("t,x\n", "no rows")])
def test_what_is_wrong_with_a_file_is_named(tmp_path, text, said):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=said): read_series(tmp_path / "bad.csv")


def test_what_is_wrong_with_the_rest_is_named(table, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"): read_series(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="is a folder"): read_series(tmp_path)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match="'.xlsx' is not known"): read_series(tmp_path / "a.xlsx")
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="cannot be read"): read_series(tmp_path / "b.parquet")
    (tmp_path / "c.arrow").write_bytes(b"no arrow")
    with pytest.raises(ValueError, match="no Arrow file"): read_series(tmp_path / "c.arrow")
    with pytest.raises(ValueError, match="no column 'z'"): read_series(table, columns=["z"])
    with pytest.raises(ValueError, match="transpose"): read_series(table.to_numpy())
    with pytest.raises(ValueError, match="only the column"): read_series(table[["time"]], time="time")
    assert read_series(pd.DataFrame({"t": [1.0, 2.0, 4.0]})).names == ("t",)  # the only column is the series


class Truth:
    "Knows a period, and that there is noise."
    name = "truth"

    def forecast(self, context, prediction_length):
        context = check_context(context, prediction_length)
        last = np.repeat(context[..., -1:], prediction_length, -1)
        return Forecast.from_quantiles(last[..., None] + np.linspace(-1.28, 1.28, 9) * 0.1)


def test_a_backtest_is_a_loop_over_the_past(table):
    series, parrot = read_series(table), ContextParroting()
    past = backtest(series, [parrot, Persistence(), Truth()], 30, context_length=250, n_windows=7)
    assert past.context_length == 250 and past.starts[0] == 0 and past.starts[-1] == 400 - 280 and len(past.starts) == 7
    for k, start in enumerate(past.starts):
        context, truth = series.values[:, start:start + 250], series.values[:, start + 250:start + 280]
        assert np.array_equal(past.forecasts["parroting"].median[k], parrot.forecast(context[None], 30).median[0])
        error = np.sqrt((((past.forecasts["persistence"].median[k] - truth) / context.std(-1, keepdims=True)) ** 2).mean(0))
        assert np.allclose(past.errors("persistence")[k], error)
    table = past.summary().set_index("forecaster")
    assert np.isclose(table.loc["persistence", "mae_std"], np.mean(np.abs(past.forecasts["persistence"].median - past.truth) / past.scale[..., None])) and np.isnan(table.loc["parroting", "coverage80"]) and 0 < table.loc["truth", "coverage80"] < 1
    short = backtest(series.values[:, :60], [Persistence()], 20)
    assert short.context_length == 30 and short.starts[-1] == 10
    with pytest.raises(ValueError, match="forecast fewer steps"): backtest(series.values[:, :30], [Persistence()], 29)


def test_intervals_from_past_errors_hold_what_they_promise():
    rng = np.random.default_rng(0)
    hits = []
    for k in range(30):
        t = np.arange(700) + 100 * k
        x = np.sin(2 * np.pi * t / 25) + 0.2 * rng.normal(size=700)
        answer = forecast(x[:650], Seasonal(25), 50, context_length=200, n_windows=30)
        assert not answer.forecast.is_point and np.all(np.diff(answer.forecast.quantiles, axis=-1) >= 0) and np.allclose(answer.forecast.quantiles[..., 4], answer.forecast.median)
        hits.append((answer.forecast.quantiles[0, 0, :, 0] <= x[650:]) & (x[650:] <= answer.forecast.quantiles[0, 0, :, 8]))
    assert abs(np.mean(hits) - 0.8) < 0.05
    assert forecast(x[:650], Seasonal(25), 50, n_windows=5).forecast.is_point


def test_constants_and_short_series():
    with pytest.raises(ValueError, match="nothing to forecast"): forecast(np.ones(100), Persistence(), 5)
    with pytest.raises(ValueError, match="prediction_length"): forecast(np.arange(100.0), Persistence(), 0)
    one = np.stack([np.sin(np.arange(200) / 3), np.full(200, 4.0)])
    answer = forecast(one, ContextParroting(), 20, context_length=80)
    assert np.allclose(answer.forecast.median[0, 1], 4) and answer.past.summary().undefined_windows[0] == 20
    said = " ".join(describe(answer))
    assert "did not move" in said and f"{answer.series.names[1]} never moved there" in said and f"columns=[{answer.series.names[0]}]" in said
    short = forecast(np.sin(np.arange(30.0)), Persistence(), 20)
    assert short.past is None and "too short for a backtest" in " ".join(describe(short))


def test_the_command(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table.to_csv("data.csv", index=False)
    assert cli.main(["forecast", "data.csv", "prediction_length=40", "context_length=150", "n_windows=12"]) == 0
    out = capsys.readouterr().out
    assert "How far could it have been trusted? At 12 moments" in out and "dominant periods" in out and "in time" in out
    made = pd.read_csv("forecast/forecast.csv")
    assert list(made.columns) == ["time", "series", "median", *(f"q{level:g}" for level in LEVELS)] and len(made) == 80 and abs(made.time[0] - 20.0) < 1e-9
    rows = pd.read_csv("forecast/backtest.csv")
    assert len(rows) == 36 and set(rows.forecaster) == {"parroting", "seasonal", "persistence"}
    for picture in ("forecast.png", "backtest.png"): assert (tmp_path / "forecast" / picture).read_bytes()[:4] == b"\x89PNG"
    first = {path.name: path.read_bytes() for path in (tmp_path / "forecast").iterdir()}
    assert cli.main(["-q", "forecast", "data=data.csv", "prediction_length=40", "context_length=150", "n_windows=12"]) == 0
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "forecast").iterdir()}
    assert cli.main(["-q", "forecast", "data.csv", "prediction_length=40", "n_windows=0", "output_dir=bare"]) == 0
    assert not (tmp_path / "bare" / "backtest.csv").exists()


@pytest.mark.parametrize("words, code, said", [
    (["nothing.csv"], 1, "there is no file nothing.csv"), ([], 1, "no data"), (["data.csv", "prediction_length=0"], 1, "prediction_length must be"), (["data.csv", "horizon=3"], 2, "has no key 'horizon'"),
    (["data.csv", "columns=[z]"], 1, "no column 'z'"), (["data.csv", "baselines=[parot]"], 1, "did you mean 'parroting'"), (["data.csv", "model_id=nowhere/at/all"], 1, "no checkpoint nowhere/at/all")])
def test_mistakes_are_one_line(table, tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    table.to_csv("data.csv", index=False)
    assert cli.main(["forecast", *words]) == code
    assert said in capsys.readouterr().err and not (tmp_path / "forecast").exists()


@pytest.mark.parametrize("family", ("chronos-t5", "chronos-bolt", "chronos-2"))
def test_the_command_with_a_model(table, tmp_path, monkeypatch, capsys, family):
    from chronos_dysts.models import build, save

    monkeypatch.chdir(tmp_path)
    table[["x", "y"]].to_csv("data.csv", index=False, header=False)
    save(build(family, {"size": "nano", "d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2}, context_length=64, prediction_length=16, n_tokens=128 if family == "chronos-t5" else None), "runs/mine/final")
    assert cli.main(["forecast", "data.csv", "prediction_length=24", "context_length=64", "n_windows=3", "model_id=runs/mine/final", "baselines=[parroting]"]) == 0
    assert "mine forecasts 24 steps" in capsys.readouterr().out and "80 % interval held" in (tmp_path / "forecast/summary.txt").read_text()
    made = pd.read_csv("forecast/forecast.csv")
    assert len(made) == 48 and (made["q0.1"] <= made["q0.9"] + 1e-9).mean() > 0.5 and json.loads((tmp_path / "forecast/summary.txt").read_text().splitlines()[-1])["model_id"] == "runs/mine/final"


def test_settings_that_make_no_sense():
    for bad, said in ((dict(data="a", context_length=1), "context_length"), (dict(data="a", n_windows=-1), "n_windows"), (dict(data="a", baselines=()), "nothing to forecast with"), (dict(data="a", modle_id="b"), "did you mean 'model_id'")):
        with pytest.raises(ValueError, match=said): ForecastConfig.from_mapping(bad)
    assert isinstance(Series(np.zeros((1, 3)), ("x",)).times_after(2), np.ndarray) and run_forecast is not None


def test_the_verdict_counts_moments_and_says_where_they_decide_nothing():
    """A sign test over the moments of the backtest: a sine decides, noise does not, and a draw is one."""
    def verdict(values, forecaster, rival):
        return " ".join(describe(forecast(values, forecaster, 16, context_length=128, rivals=[rival])))

    t, rng = np.arange(1200), np.random.default_rng(0)
    wave = np.sin(2 * np.pi * t / 25) + 0.01 * rng.normal(size=1200)
    assert "At 20 of 20 moments parroting was closer." in verdict(wave, ContextParroting(), Persistence())
    assert "At 20 of 20 moments parroting was closer: here it is the better choice." in verdict(wave, Persistence(), ContextParroting())
    assert "was closer, which decides nothing." in verdict(np.random.default_rng(1).normal(size=1200), ContextParroting(), Seasonal())

"""Published protocols: trajectories that come out again, a wheel that is checked, published scores that our naive forecasts reproduce, and the benchmark's table."""

import hashlib
import json
import subprocess
import zipfile

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from chronos_dysts import cli, metrics, protocols
from chronos_dysts.baselines import ContextMean, ContextParroting, Drift, Persistence
from chronos_dysts.benchmark import BenchmarkConfig, benchmark_table, published_rows, run_benchmark
from chronos_dysts.evaluation import METRICS, EvaluationConfig, Protocol, evaluate, read_rows, run_evaluation
from chronos_dysts.lyapunov import reference_exponents
from chronos_dysts.protocols import PROTOCOLS, PUBLISHED_SERIES, TrajectorySpec, cache_dir, fetch_wheel, published_scores, published_trajectories
from chronos_dysts.systems import PANDA20, get_system

QUIET = Console(quiet=True)


# ---- the protocols ----


def test_the_protocols_are_those_of_the_papers():
    for name, protocol in PROTOCOLS.items():
        made = Protocol.named(name)
        assert made.name == name and made == Protocol.named(name) and set(made.metrics) <= set(METRICS) and "arXiv" in protocol.source
    fine, coarse = Protocol.named("dysts-univariate-fine"), Protocol.named("dysts-univariate-coarse")
    assert (fine.context_length, fine.prediction_length, fine.horizons, fine.standardise) == (1000, 200, (199,), False)
    assert (coarse.context_length, coarse.prediction_length, coarse.horizons) == (150, 30, (29,)) and Protocol.named("dysts-multivariate").context_length == 1000
    panda = Protocol.named("panda20")
    assert panda.horizons == (64, 128, 192, 256, 320, 384, 448, 512) and panda.context_length == 512 and panda.standardise and panda.n_windows == 20
    spec = PROTOCOLS["panda20"].spec
    assert spec.systems == PANDA20 and spec.length == 4096 and np.isclose(spec.length * spec.dt("Rossler") / get_system("Rossler").period, 40)
    shot, spec = Protocol.named("zero-shot"), PROTOCOLS["zero-shot"].spec
    assert (shot.context_length, shot.prediction_length, spec.n_ics, spec.length) == (512, 300, 20, 812)
    assert np.isclose(30 * spec.dt("Lorenz"), 1 / 0.9056, rtol=0.01)
    assert Protocol.named("panda20", seed=3).seed == 3
    with pytest.raises(ValueError, match="did you mean 'panda20'"): Protocol.named("panda2")
    with pytest.raises(ValueError, match="only a named protocol"): Protocol().trajectories()


def test_a_recipe_gives_the_same_trajectories_and_keeps_them(tmp_path, monkeypatch):
    spec = TrajectorySpec(("Lorenz", "Thomas"), n_ics=2, length=200, points_per_lyapunov_time=30)
    made = spec.store(tmp_path)
    assert [t.item_id for t in made] == ["Lorenz/0", "Lorenz/1", "Thomas/0", "Thomas/1"] and made[0].target.dtype == np.float64
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.arrow")}
    again = spec.store(tmp_path)
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.arrow")} and all(np.array_equal(a.target, b.target) for a, b in zip(made, again))
    assert np.array_equal(TrajectorySpec(("Thomas",), n_ics=2, length=200, points_per_lyapunov_time=30).make("Thomas")[1].target, made[3].target)  # whatever stands beside it
    other = TrajectorySpec(("Lorenz",), n_ics=2, length=200, points_per_lyapunov_time=30, seed=1).store(tmp_path)
    assert not np.array_equal(other[0].target, made[0].target) and len(list(tmp_path.rglob("*.arrow"))) == 3


@pytest.mark.parametrize("bad, said", [(dict(systems=("Lorenz",)), "either"), (dict(systems=(), points_per_period=10), "no systems"), (dict(systems=("Lorenz",), points_per_period=-1), "positive"), (dict(systems=("Lorenz",), length=0, points_per_period=9), "positive")])
def test_recipes_that_make_no_sense(bad, said):
    with pytest.raises(ValueError, match=said): TrajectorySpec(**bad)


def test_a_delay_system_is_among_them():
    one, = TrajectorySpec(("MackeyGlass",), length=300, points_per_period=50).make("MackeyGlass")
    assert one.target.shape[1] == 300 and np.ptp(one.target) > 0.3


# ---- published scores ----

MEDIANS = {"dysts-univariate-fine": {"NBEATSModel": 67.70, "TransformerModel": 101.4, "RNNModel": 102.0, "AutoARIMA": 118.1, "FFT": 118.6, "NaiveSeasonal": 125.3},
           "dysts-univariate-coarse": {"NBEATSModel": 50.62, "TransformerModel": 94.0, "RNNModel": 67.8, "AutoARIMA": 114.8, "FFT": 116.3, "NaiveSeasonal": 125.7},
           "dysts-multivariate": {"NBEATSModel": 42.17, "TransformerModel": 78.3, "RNNModel": 63.9, "NHiTSModel": 63.6, "NeuralODE": 72.6, "NVAR": 83.6, "ESN": 101.8}}


@pytest.mark.parametrize("name", PUBLISHED_SERIES)
def test_the_published_medians_come_out_of_the_package(name):
    table = published_scores(name).pivot(index="system", columns="method", values="smape200")
    assert table.shape[0] >= 131
    for method, median in MEDIANS[name].items(): assert abs(table[method].median() - median) < 0.06, method
    rows = published_rows(name)
    assert set(rows["metric"]) == {"smape200"} and rows["forecaster"].str.endswith(" (published)").all() and not rows.duplicated(["forecaster", "system"]).any()


# ---- the wheel ----


def series(length, points, seed, dim=None):
    t = np.arange(length) / points
    waves = [np.sin(2 * np.pi * (t + phase)) + 0.3 * np.sin(2 * np.pi * (2 ** 0.5 * t + phase)) + 2 for phase in np.random.default_rng(seed).random(dim or 1)]
    return {"time": (t * 1.5).tolist(), "dt": 0.1, "values": np.transpose(waves).tolist() if dim else waves[0].tolist()}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    "A small file in the place of the published one, with its own checksum."
    path = tmp_path / "cache" / protocols.WHEEL
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as file:
        for (kind, points), length, dim in (((kind, points), 12 * points, 3 if kind == "multivariate" else None) for kind, points in PUBLISHED_SERIES.values()):
            data = {name: series(length, points, k, dim) for k, name in enumerate(("Lorenz", "Aizawa", "Rossler", "Chen"))}
            file.writestr(f"dysts/data/test_{kind}__pts_per_period_{points}__periods_12.json", json.dumps(data))
    monkeypatch.setenv("CHRONOS_DYSTS_CACHE", str(path.parent))
    monkeypatch.setattr(protocols, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_the_series_are_read_in_place(wheel):
    fine, multi = published_trajectories("dysts-univariate-fine"), published_trajectories("dysts-multivariate")
    assert [t.system for t in fine] == ["Aizawa", "Chen", "Lorenz", "Rossler"] and fine[0].target.shape == (1, 1200) and multi[0].target.shape == (3, 1200)
    assert np.isclose(fine[0].period, 1.5) and np.isclose(fine[0].dt, 0.015)
    assert Protocol.named("dysts-univariate-fine").window_starts(fine[0]).tolist() == [0]


def test_a_wheel_that_is_not_the_published_one_is_refused(wheel, monkeypatch):
    monkeypatch.setattr(protocols, "WHEEL_SHA256", "0" * 64)
    protocols._is_whole.cache_clear()
    with pytest.raises(ValueError, match="is not the published file.*remove it"): fetch_wheel()
    protocols._is_whole.cache_clear()


def test_the_wheel_is_fetched_once_by_pip_and_no_pip_is_one_sentence(tmp_path, monkeypatch, wheel):
    calls = []

    def pip(command, **options):
        calls.append(command)
        (protocols.Path(command[command.index("--dest") + 1]) / protocols.WHEEL).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(protocols.subprocess, "run", pip)
    for _ in range(2): assert fetch_wheel(tmp_path / "new").read_bytes() == wheel.read_bytes()
    assert len(calls) == 1 and "dysts==0.1" in calls[0] and "--no-deps" in calls[0] and "download" in calls[0]
    monkeypatch.setattr(protocols.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found for dysts==0.1"))
    with pytest.raises(ConnectionError, match="No matching distribution.*or put dysts-0.1"): fetch_wheel(tmp_path / "other")
    assert not list((tmp_path / "other").iterdir()) and cache_dir() == wheel.parent


# ---- evaluation and benchmark ----


def test_a_named_protocol_is_evaluated(wheel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = run_evaluation(dict(named_protocol="dysts-univariate-coarse", baselines=["persistence", "parroting"], n_examples=1), QUIET)
    rows = read_rows("evaluation/rows.parquet")
    trajectories = published_trajectories("dysts-univariate-coarse")
    for t in trajectories:
        value = rows.query("forecaster == 'persistence' and metric == 'smape200' and system == @t.system").value.item()
        assert np.isclose(value, metrics.smape200(t.target[0, 150:179], np.full(29, t.target[0, 149])))
    page = report.read_text()
    assert "dysts-univariate-coarse" in page and "in state space" in page and "power spectra" in page
    before = report.stat().st_mtime_ns
    run_evaluation(dict(named_protocol="dysts-univariate-coarse", baselines=["persistence", "parroting"], n_examples=1), QUIET)
    assert report.stat().st_mtime_ns >= before
    with pytest.raises(ValueError, match="fixes context_length: leave it out"): EvaluationConfig(named_protocol="panda20", context_length=64)
    with pytest.raises(ValueError, match="did you mean 'Lorenz'"): run_evaluation(dict(named_protocol="dysts-univariate-coarse", systems=["Lorentz"], output_dir="b"), QUIET)


def test_lyapunov_times_and_floors_are_in_the_rows():
    spec = TrajectorySpec(("Lorenz", "Rossler"), length=900, points_per_lyapunov_time=30)
    trajectories = [t for name in spec.systems for t in spec.make(name)]
    rows = evaluate([ContextParroting(), Persistence()], trajectories, Protocol(400, 400, n_windows=2, metrics=("vpt", "vpt_lyapunov", "vpt_periods", "d_stsp", "d_stsp_floor", "d_h", "d_h_floor", "spearman")))
    wide = rows[rows["horizon"] == 400].set_index(["forecaster", "trajectory", "window", "metric"])["value"].unstack("metric")
    assert np.allclose(wide["vpt_lyapunov"], wide["vpt"] / 30, rtol=0.01)
    for system in spec.systems:
        part = wide.loc[wide.index.get_level_values("trajectory").str.startswith(system)]
        assert np.allclose(part["vpt_periods"] * get_system(system).period * reference_exponents(system).exponents[0], part["vpt_lyapunov"], rtol=0.01)
    assert np.all(wide.loc["persistence", "d_h"] == 1) and wide.loc["persistence", "spearman"].isna().all() and (wide.loc["parroting", "d_h"] < 0.5).all()
    assert np.array_equal(wide.loc["persistence", "d_h_floor"], wide.loc["parroting", "d_h_floor"]) and (wide["d_stsp_floor"] < wide.loc["persistence", "d_stsp"].min()).all()


def test_the_benchmark_puts_ours_beside_theirs(wheel, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["benchmark", "series=dysts-univariate-coarse", "baselines=[persistence,parroting]", "n_examples=0"]) == 0
    out = capsys.readouterr().out
    assert "NBEATSModel (published)" in out and "persistence" in out and "median sMAPE on the 0–200 scale over 4 systems" in out
    table = pd.read_csv("benchmark/table.csv").set_index("forecaster")
    theirs = published_scores("dysts-univariate-coarse").query("method == 'NBEATSModel' and system in ('Lorenz', 'Aizawa', 'Rossler', 'Chen')").smape200
    assert np.isclose(table.loc["NBEATSModel (published)", "median"], theirs.median()) and table.loc["NBEATSModel (published)", "n_systems"] == 4
    rows = read_rows("benchmark/rows.parquet")
    marked = benchmark_table(rows, seen=["Lorenz", "Chen"]).set_index("forecaster")
    held_out = rows.query("forecaster == 'parroting' and metric == 'smape200' and system in ('Aizawa', 'Rossler')").value.median()
    assert np.isclose(marked.loc["parroting", "median"], held_out) and np.isclose(marked.loc["parroting", "all_systems"], table.loc["parroting", "median"]) and (marked["n_systems"] == 2).all()
    assert (tmp_path / "benchmark" / "report.html").exists()


def test_systems_that_a_model_was_trained_on_are_left_out_of_the_headline(wheel, tmp_path, monkeypatch, capsys):
    from chronos_dysts.models import build, save

    monkeypatch.chdir(tmp_path)
    model = build("chronos-bolt", {"size": "nano", "d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2}, context_length=64, prediction_length=16)
    save(model, "runs/mine/final", {"systems": ["Lorenz", "Thomas"]})
    table = run_benchmark(dict(series="dysts-univariate-coarse", baselines=["parroting"], model_id="runs/mine/final", n_examples=0), Console())
    out = capsys.readouterr().out
    assert "over 3 systems that no model was trained on (1 were: Lorenz)" in " ".join(out.split()) and (table["n_systems"] == 3).all() and "mine" in set(table["forecaster"])
    page = (tmp_path / "benchmark" / "report.html").read_text()
    assert "(seen in training)" in page and "a published forecast" in page


def test_the_rollout_of_a_model_is_a_setting(wheel, tmp_path, monkeypatch):
    from chronos_dysts.models import build, save
    from chronos_dysts.store import write_trajectory

    monkeypatch.chdir(tmp_path)
    save(build("chronos-bolt", {"size": "nano", "d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2, "initializer_factor": 0.5}, context_length=64, prediction_length=16), "runs/mine/final")
    write_trajectory(published_trajectories("dysts-multivariate")[0], "data/test/Aizawa/0_T-1200.arrow")
    settings = dict(model_id="runs/mine/final", context_length=64, prediction_length=48, horizons=(16, 48), n_windows=2, metrics=("mae",), baselines=[], n_examples=0)
    values = {}
    for rollout in ("quantiles", "median"):
        run_evaluation(settings | dict(rollout=rollout, output_dir=rollout), QUIET)
        values[rollout] = read_rows(f"{rollout}/rows.parquet").set_index("horizon").value
    assert np.allclose(values["quantiles"][16], values["median"][16]) and not np.allclose(values["quantiles"][48], values["median"][48])
    with pytest.raises(ValueError, match="rollout='beam'"): run_evaluation(settings | dict(rollout="beam", output_dir="c"), QUIET)


@pytest.mark.parametrize("bad, said", [(dict(series="dysts-fine"), "did you mean"), (dict(baselines=["persistence"]), "has to name parroting"), (dict(modle_id="x"), "did you mean 'model_id'"), (dict(baselines=["parrots"]), "did you mean 'parroting'")])
def test_benchmarks_that_make_no_sense(bad, said):
    with pytest.raises(ValueError, match=said): BenchmarkConfig.from_mapping(bad)


# ---- with the published series themselves ----


@pytest.mark.slow
@pytest.mark.parametrize("name, cut", [("dysts-univariate-fine", 1000), ("dysts-univariate-coarse", 150)])
def test_the_naive_rows_of_all_131_systems_come_out_again(name, cut):
    trajectories, scores = published_trajectories(name), published_scores(name).pivot(index="system", columns="method", values="smape200")
    assert len(trajectories) == 131
    protocol = Protocol.named(name)
    rows = evaluate([Persistence(), ContextMean(), Drift(), ContextParroting(20)], trajectories, protocol).query("metric == 'smape200'").pivot(index="system", columns="forecaster", values="value")
    for ours, theirs in (("persistence", "NaiveSeasonal"), ("mean", "NaiveMean"), ("drift", "NaiveDrift")):
        assert np.abs(rows[ours] - scores[theirs]).max() < 1e-4
    if name == "dysts-univariate-fine": assert abs(rows["parroting"].median() - 56.8) < 1

"""Evaluation: the same windows for everybody, rows that a loop would give, summaries that count what they leave out, and a job that can be run again."""

import itertools
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from chronos_dysts import evaluation, metrics
from chronos_dysts.baselines import BASELINES, ContextMean, ContextParroting, Persistence
from chronos_dysts.evaluation import (METRICS, EvaluationConfig, Protocol, choose_examples, compare, evaluate, headline, per_system, read_rows, run_evaluation, summarise, write_report, write_rows)
from chronos_dysts.forecasting import Forecast
from chronos_dysts.store import Trajectory, write_trajectory

QUIET = Console(quiet=True)
PROTOCOL = Protocol(context_length=40, prediction_length=20, horizons=(5, 20), n_windows=3, metrics=tuple(METRICS))


def trajectory(system, sample=0, dim=3, length=150, seed=0, offset=0.0):
    rng = np.random.default_rng([seed, sample, dim, sum(map(ord, system))])
    waves = np.sin(np.arange(length) / rng.uniform(3, 12, size=(dim, 1)) + rng.uniform(0, 6, size=(dim, 1))) + 0.05 * rng.normal(size=(dim, length)).cumsum(-1) + offset
    return Trajectory(waves.astype(np.float32), f"{system}/{sample}", system, {}, np.zeros(dim), dt=0.1, period=4.0, seed=seed)


@pytest.fixture
def trajectories():
    return [trajectory(system, sample, dim) for system, dim in (("Alpha", 3), ("Beta", 1), ("Gamma", 4), ("Delta", 3)) for sample in range(2)]


class Noise:
    "Sample paths that depend on nothing but the window."
    name = "noise"

    def forecast(self, context, prediction_length):
        paths = [np.random.default_rng(abs(int(1e6 * window.sum()))).normal(size=(20, context.shape[1], prediction_length)) for window in context]
        return Forecast.from_samples(np.stack(paths))


class Oracle:
    "Knows the future of the trajectories that it is given."
    name = "oracle"

    def __init__(self, trajectories, protocol):
        self.known = {}
        for t in trajectories:
            for start in protocol.window_starts(t):
                window = t.target[:, start:start + protocol.context_length + protocol.prediction_length].astype(float)
                context = window[:, :protocol.context_length]
                standard = (window - context.mean(-1, keepdims=True)) / context.std(-1, keepdims=True)
                self.known[standard[:, :protocol.context_length].round(6).tobytes()] = standard[:, protocol.context_length:]

    def forecast(self, context, prediction_length):
        return Forecast.from_point(np.stack([self.known[window.round(6).tobytes()] for window in context]))


def test_rows_are_those_of_a_loop(trajectories):
    rows = evaluate([Noise(), ContextParroting()], trajectories, PROTOCOL).set_index(["forecaster", "trajectory", "window", "metric", "horizon"]).value
    seen = 0
    for forecaster, t in itertools.product((Noise(), ContextParroting()), trajectories):
        for start in PROTOCOL.window_starts(t):
            window = t.target[:, start:start + 60].astype(float)
            mean, std = window[:, :40].mean(-1, keepdims=True), window[:, :40].std(-1, keepdims=True)
            context, truth = (window[:, :40] - mean) / std, (window[:, 40:] - mean) / std
            f = forecaster.forecast(context[None], 20)
            for h in (5, 20):
                y, yhat, q = truth[:, :h], f.median[0, :, :h], f.quantiles[0, :, :h]
                expected = {"smape100": metrics.smape100(y, yhat).mean(), "smape200": metrics.smape200(y, yhat).mean(), "mae": np.abs(y - yhat).mean(), "rmse": np.sqrt(((y - yhat) ** 2).mean(-1)).mean(),
                            "nrmse": np.sqrt(((y - yhat) ** 2).mean(-1)).mean(), "mase": np.mean([np.abs(a - b).mean() / np.abs(np.diff(c)).mean() for a, b, c in zip(y, yhat, context)]),
                            "wql": metrics.wql(y, q, f.levels).mean(), "quantile_loss": metrics.quantile_loss(y, q, f.levels).mean(),
                            "coverage80": np.nan if f.is_point else ((q[..., 0] <= y) & (y <= q[..., -1])).mean()}
                expected |= {"mse": ((y - yhat) ** 2).mean(), "spearman": metrics.spearman(y, yhat).mean()}
                if h == 20:
                    later, patient = context[:, -20:], metrics.valid_prediction_time_smape200(y, yhat)
                    expected |= {"d_stsp": metrics.state_space_divergence(y, yhat), "d_stsp_floor": metrics.state_space_divergence(y, later), "d_h": metrics.spectral_hellinger_distance(y, yhat),
                                 "d_h_floor": metrics.spectral_hellinger_distance(y, later), "wasserstein": metrics.sliced_wasserstein_distance(y, yhat), "vpt_smape200_periods": patient * 0.1 / 4,
                                 "vpt_lyapunov": np.nan, "vpt_smape200_lyapunov": np.nan}  # nobody knows the exponents of Alpha and Beta
                    theiler = min(100, 20 // 6)
                    expected["dimension_error"] = abs(metrics.correlation_dimension(yhat, 0.05, theiler) - metrics.correlation_dimension(y, 0.05, theiler))
                    vpt = metrics.valid_prediction_time(y, yhat, np.ones(len(y)))
                    expected |= {"vpt": vpt, "vpt_periods": vpt * 0.1 / 4, "vpt_smape200": metrics.valid_prediction_time_smape200(y, yhat)}
                for name, value in expected.items():
                    assert np.isclose(rows[forecaster.name, t.item_id, start, name, h], value, rtol=1e-9, equal_nan=True), (name, h)
                    seen += 1
    assert seen == len(rows)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 1000])
def test_batching_leaves_no_trace(trajectories, batch_size):
    forecasters = [Noise(), ContextParroting(), Persistence()]
    pd.testing.assert_frame_equal(evaluate(forecasters, trajectories, PROTOCOL), evaluate(forecasters, trajectories, PROTOCOL, batch_size=batch_size))


def test_perfect_forecasts_score_perfectly(trajectories):
    rows = evaluate([Oracle(trajectories, PROTOCOL)], trajectories, PROTOCOL)
    for name, perfect in {"smape100": 0, "mae": 0, "rmse": 0, "wql": 0, "mase": 0, "vpt": 20, "vpt_smape200": 20, "vpt_periods": 0.5}.items():
        assert np.allclose(rows[rows.metric == name].value, perfect), name


def test_windows_depend_on_seed_and_trajectory_only(trajectories):
    for t in trajectories:
        starts = PROTOCOL.window_starts(t)
        assert np.array_equal(starts, PROTOCOL.window_starts(t)) and np.all(np.diff(starts) > 0) and 0 <= starts[0] and starts[-1] + 60 <= 150
        assert np.array_equal(starts, Protocol(context_length=40, prediction_length=20, n_windows=3, metrics=("mae",), standardise=False).window_starts(t))
    drawn = {tuple(Protocol(context_length=40, prediction_length=20, n_windows=3, seed=seed).window_starts(t)) for seed in range(5) for t in trajectories}
    assert len(drawn) > 30
    alone = evaluate([Persistence()], trajectories[3:4], PROTOCOL)
    amid = evaluate([ContextMean(), Persistence()], trajectories, PROTOCOL)
    pd.testing.assert_frame_equal(alone, amid[(amid.forecaster == "persistence") & (amid.trajectory == trajectories[3].item_id)].reset_index(drop=True))


def test_all_possible_windows_are_taken_where_there_are_few():
    assert Protocol(context_length=40, prediction_length=20, n_windows=9).window_starts(trajectory("A", length=63)).tolist() == [0, 1, 2, 3]


def test_raw_units():
    t = [trajectory("A", offset=100.0)]
    raw, standard = (evaluate([ContextMean()], t, Protocol(40, 20, n_windows=2, metrics=("mae", "nrmse", "vpt"), standardise=s)).set_index(["window", "horizon", "metric"]).value for s in (False, True))
    for start in Protocol(40, 20, n_windows=2).window_starts(t[0]):
        window = t[0].target[:, start:start + 60].astype(float)
        assert np.isclose(raw[start, 20, "mae"], np.abs(window[:, 40:] - window[:, :40].mean(-1, keepdims=True)).mean())
        assert np.isclose(raw[start, 20, "nrmse"], standard[start, 20, "nrmse"]) and raw[start, 20, "vpt"] == standard[start, 20, "vpt"]


def test_constant_coordinates_are_nan_and_counted(trajectories):
    still = trajectories[0].target.copy()
    still[1, :] = 3.0
    frozen = Trajectory(still, "Frozen/0", "Frozen", {}, np.zeros(3), 0.1, 4.0, 0)
    rows = evaluate([Persistence(), ContextMean(), Noise()], [*trajectories, frozen], PROTOCOL)
    assert rows[rows.system == "Frozen"].value.isna().all() and len(rows[(rows.system == "Frozen") & (rows.metric == "vpt")]) == 9
    summary = summarise(rows[rows.metric == "mae"])
    assert (summary.n_undefined_windows == 3).all() and (summary.n_undefined_systems == 1).all() and (summary.n_systems == 4).all() and summary["median"].notna().all()


@pytest.mark.parametrize("seed", range(5))
def test_summary_is_that_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    lines = [(f, s, f"{s}/{k % 2}", k, 8, "mae", np.nan if rng.random() < 0.2 else rng.gamma(2)) for f in "ab" for s in "ABCDE" for k in range(int(rng.integers(1, 6)))]
    rows = pd.DataFrame(lines, columns=evaluation.COLUMNS)
    summary = summarise(rows, n_bootstrap=300, seed=seed).set_index("forecaster")
    for f in "ab":
        means = [np.nanmean(v) for s in "ABCDE" if not np.isnan(v := [line[-1] for line in lines if line[0] == f and line[1] == s]).all()]
        assert np.isclose(summary.loc[f, "median"], np.median(means)) and np.isclose(summary.loc[f, "q25"], np.quantile(means, 0.25)) and summary.loc[f, "n_systems"] == len(means)
        assert summary.loc[f, "n_undefined_windows"] == sum(np.isnan(line[-1]) for line in lines if line[0] == f) and summary.loc[f, "n_windows"] == sum(line[0] == f for line in lines)
        assert np.all(np.diff([min(means), *summary.loc[f, ["low", "median", "high"]], max(means)]) >= -1e-12)
    pd.testing.assert_frame_equal(summarise(rows, n_bootstrap=300, seed=seed), summarise(rows, n_bootstrap=300, seed=seed))


def test_bootstrap_interval_of_the_median_covers_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for trial in range(200):
        values = rng.normal(size=40)
        low, high = np.quantile(evaluation._bootstrap_medians(values, 400, trial), (0.025, 0.975))
        covered += low <= 0 <= high
    assert 0.90 <= covered / 200 <= 0.99


def systems_rows(values):
    "One window a system; forecaster -> value of each system."
    return pd.DataFrame([(f, f"S{i:02}", f"S{i:02}/0", 0, 8, "mae", float(v)) for f, vs in values.items() for i, v in enumerate(vs)], columns=evaluation.COLUMNS)


def test_comparison_is_paired():
    rng = np.random.default_rng(0)
    hard = rng.gamma(2, 10, size=30)  # systems differ far more than the forecasters do
    rows = systems_rows({"parroting": hard, "little better": hard - rng.uniform(0.1, 0.3, 30), "same": hard + rng.normal(0, 0.1, 30), "worse": hard * 1.2})
    table = compare(rows).set_index("forecaster")
    assert table.verdict.to_dict() == {"little better": "better", "same": "undecided", "worse": "worse"}
    assert table.loc["little better", "wins"] == 30 and -0.3 < table.loc["little better", "difference"] < -0.1 and table.loc["little better", "p_value"] < 1e-6
    higher = rows.assign(metric="vpt")
    assert compare(higher).set_index("forecaster").verdict.to_dict() == {"little better": "worse", "same": "undecided", "worse": "better"}
    assert len(compare(rows.assign(metric="coverage80"))) == 0
    assert (compare(systems_rows({"parroting": [1, 2, 3], "better": [0.5, 1, 2]})).verdict == "undecided").all()  # three systems decide nothing
    assert (compare(systems_rows({"parroting": hard, "copy": hard})).verdict == "undecided").all()


def test_infinities_and_nan_survive_the_tables():
    rows = systems_rows({"parroting": [1, 2, 3, 4], "blown": [np.inf, 2, np.inf, np.inf], "undefined": [np.nan] * 4, "half": [np.nan, 1, np.nan, 1]})
    summary = summarise(rows).set_index("forecaster")
    assert summary.loc["blown", "median"] == np.inf and np.isnan(summary.loc["undefined", "median"]) and summary.loc["undefined", "n_undefined_systems"] == 4 and summary.loc["half", "median"] == 1
    assert set(compare(rows).forecaster) == {"blown", "undefined", "half"}
    assert per_system(rows).shape == (4, 4)


def test_examples_are_the_best_the_median_and_the_worst(trajectories):
    forecasters = [Noise(), ContextParroting()]
    protocol = Protocol(40, 20, n_windows=5, metrics=("smape100", "vpt"))
    rows = evaluate(forecasters, trajectories, protocol)
    examples = choose_examples(forecasters, trajectories, rows, protocol, focus="parroting", n_systems=2)
    assert [e.rank for e in examples] == ["best", "median", "worst"] * 2 and len({e.system for e in examples}) == 2
    scores = rows[(rows.forecaster == "parroting") & (rows.metric == "smape100") & (rows.horizon == 20)]
    for e in examples:
        mine = scores[scores.system == e.system].value.sort_values().to_numpy()
        assert np.isclose(e.scores["parroting"], {"best": mine[0], "median": mine[(len(mine) - 1) // 2], "worst": mine[-1]}[e.rank])
        t = next(t for t in trajectories if t.item_id == e.trajectory)
        assert np.array_equal(np.concatenate([e.context, e.truth], -1), t.target[:, e.window:e.window + 60])
        assert np.allclose(e.forecasts["parroting"].median[0], ContextParroting().forecast(e.context[None], 20).median[0])  # in the units of the data
        assert np.all(np.diff(e.forecasts["noise"].quantiles) >= 0)
    longest = choose_examples(forecasters, trajectories, rows, protocol, focus="parroting", metric="vpt", n_systems=1)
    assert longest[0].scores["parroting"] >= longest[-1].scores["parroting"]


def test_report_stands_alone_and_escapes(tmp_path, trajectories):
    forecasters = {"<script>alert(1)</script>": Noise(), "parroting": ContextParroting(), "mean": ContextMean()}
    protocol = Protocol(40, 20, n_windows=2)
    rows = evaluate(forecasters, trajectories, protocol)
    examples = choose_examples(forecasters, trajectories, rows, protocol, focus="parroting", n_systems=1)
    page = write_report(tmp_path / "a" / "report.html", rows, examples, protocol=protocol, trained_on=["Alpha", "Omega"], families={"Alpha": ["waves"], "Beta": ["waves"]}, made={"configuration": {"seed": 0}}).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r'(src|href)\s*=\s*["\']?(https?:)?//', page) and "@import" not in page
    assert "1 system of the 4 evaluated here was trained on" in page and "(seen in training)" in page and "on both sides: Alpha" in page and "waves" in page
    assert "12 windows of 6 trajectories of 3 held-out flows" in page  # the trained one is left out
    trained = write_report(tmp_path / "c.html", rows, choose_examples(forecasters, trajectories, rows, protocol, focus="parroting", n_systems=4), protocol=protocol, trained_on=["Alpha"]).read_text()
    assert "<h3>Alpha (seen in training)</h3>" in trained and "<h3>Beta</h3>" in trained and "Alpha (seen in training)" in trained.split("System by system")[1].split("</svg>")[0]  # over its forecasts, and in the strip
    assert page.count("<svg") == 2 + 1 + 3 + 2 and list(tmp_path.rglob("*.tmp")) == []
    everything = write_report(tmp_path / "b.html", rows, protocol=protocol, trained_on=["Alpha", "Beta", "Gamma", "Delta"]).read_text()
    assert "There is no held-out system" in everything and "held-out flows" not in everything


def test_report_of_one_system_one_window_and_of_undefined_numbers(tmp_path):
    flat = Trajectory(np.ones((2, 150), np.float32), "Flat/0", "Flat", {}, np.zeros(2), 0.1, 4.0, 0)
    for ts in ([trajectory("A")], [flat], [trajectory("A"), flat]):
        protocol = Protocol(40, 20, n_windows=1)
        rows = evaluate([Persistence(), ContextParroting()], ts, protocol)
        examples = choose_examples([Persistence(), ContextParroting()], ts, rows, protocol, focus="parroting")
        page = write_report(tmp_path / "report.html", rows, examples, protocol=protocol).read_text()
        assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()
        assert len(headline(rows, protocol, "parroting")) == 2


@pytest.mark.parametrize("call, said", [
    (lambda ts: evaluate([], ts, PROTOCOL), "no forecasters"), (lambda ts: evaluate([Persistence], ts, PROTOCOL), "not a class"), (lambda ts: evaluate(["persistence"], ts, PROTOCOL), "is no forecaster"),
    (lambda ts: evaluate([Persistence(), Persistence()], ts, PROTOCOL), "several forecasters are called persistence"), (lambda ts: evaluate([Persistence()], [], PROTOCOL), "no trajectories"),
    (lambda ts: evaluate([Persistence()], [ts[0], ts[0]], PROTOCOL), "two trajectories of Alpha"), (lambda ts: evaluate([Persistence()], ts, Protocol(140, 20)), "'Alpha/0' of Alpha has 150 points"),
    (lambda ts: Protocol(n_windows=0), "n_windows"), (lambda ts: Protocol(context_length=1), "at least 2"), (lambda ts: Protocol(metrics=()), "no metrics"), (lambda ts: Protocol(metrics=("mea",)), "'mae'"),
    (lambda ts: Protocol(horizons=(20, 10)), "increase"), (lambda ts: Protocol(prediction_length=2.5), "prediction_length"),
    (lambda ts: compare(evaluate([Persistence()], ts, PROTOCOL)), "unknown forecaster 'parroting'"), (lambda ts: summarise(evaluate([Persistence()], ts, PROTOCOL), level=95), "level"),
    (lambda ts: write_report("x.html", evaluate([Persistence()], ts, PROTOCOL), protocol=PROTOCOL, focus="persistance"), "did you mean 'persistence'"),
    (lambda ts: write_rows(pd.DataFrame({"a": [1]}), "x.parquet"), "no column forecaster")])
def test_bad_input_is_named(call, said, trajectories):
    with pytest.raises(ValueError, match=said):
        call(trajectories)


# the job


@pytest.fixture
def job(tmp_path, monkeypatch, trajectories):
    monkeypatch.chdir(tmp_path)
    for t in trajectories:
        write_trajectory(t, tmp_path / "data" / "test" / t.system / f"{t.item_id.split('/')[1]}_T-150.arrow")
    return dict(data_dir="data", context_length=40, prediction_length=20, n_windows=2, n_examples=1, n_bootstrap=200)


def test_job_writes_what_it_says_and_continues(job, tmp_path, monkeypatch):
    report = run_evaluation(job, QUIET)
    assert {p.name for p in report.parent.iterdir()} == {"rows.parquet", "summary.csv", "report.html", "config.yaml", "parts"}
    first, page = read_rows("evaluation/rows.parquet"), report.read_text()
    assert yaml.safe_load((report.parent / "config.yaml").read_text())["n_windows"] == 2 and "model_id" in page
    asked = []
    monkeypatch.setattr(evaluation, "evaluate", lambda forecasters, *args, _evaluate=evaluate, **kwargs: asked.extend(forecasters) or _evaluate(forecasters, *args, **kwargs))
    run_evaluation(job, QUIET)
    assert asked == []  # nothing was scored again
    (part,) = [p for p in (report.parent / "parts").iterdir() if set(read_rows(p).forecaster) == {"mean"}]
    part.unlink()  # as if interrupted
    run_evaluation(job | dict(batch_size=3), QUIET)
    assert asked == ["mean"]
    pd.testing.assert_frame_equal(first, read_rows("evaluation/rows.parquet"))
    write_trajectory(trajectory("Beta", 0, 1, seed=9), "data/test/Beta/0_T-150.arrow")  # other data under the same name
    run_evaluation(job, QUIET)
    assert asked == ["mean", "persistence", "mean", "parroting"] and not first.equals(read_rows("evaluation/rows.parquet"))
    assert len(list((report.parent / "parts").iterdir())) == 3


class Slow:
    "A parrot that can be stopped: it takes a while over each window, and refuses after `patience` batches."
    name = "slow"

    def __init__(self, patience=10**9): self.patience, self.asked = patience, []

    def forecast(self, context, prediction_length):
        if len(self.asked) == self.patience: raise KeyboardInterrupt
        self.asked.append(len(context))
        return ContextParroting().forecast(context, prediction_length)


def test_an_interrupted_forecaster_goes_on_where_it_stopped(tmp_path, trajectories):
    whole, kept = Slow(), tmp_path / "pieces"
    rows = evaluate([whole], trajectories, PROTOCOL, batch_size=2)
    with pytest.raises(KeyboardInterrupt): evaluate([Slow(3)], trajectories, PROTOCOL, batch_size=2, keep=kept)
    assert len(list(kept.iterdir())) == 3
    rest = Slow()
    pd.testing.assert_frame_equal(evaluate([rest], trajectories, PROTOCOL, batch_size=2, keep=kept), rows)
    assert len(rest.asked) == len(whole.asked) - 3
    # batches of another size are other windows, and are not taken for these
    pd.testing.assert_frame_equal(evaluate([Slow()], trajectories, PROTOCOL, batch_size=5, keep=kept), rows)


def test_workers_leave_no_trace(tmp_path, trajectories):
    forecasters = [Noise(), ContextParroting()]
    alone = evaluate(forecasters, trajectories, PROTOCOL, batch_size=2)
    pd.testing.assert_frame_equal(evaluate(forecasters, trajectories, PROTOCOL, batch_size=2, workers=2, keep=tmp_path), alone)
    pd.testing.assert_frame_equal(pd.concat([read_rows(p) for p in tmp_path.iterdir()]).sort_values(list(evaluation.COLUMNS), ignore_index=True), alone.sort_values(list(evaluation.COLUMNS), ignore_index=True))


KILLED = """
import sys, time
from rich.console import Console
from chronos_dysts.baselines import Persistence
from chronos_dysts.evaluation import run_evaluation
calm = Persistence.forecast
def forecast(self, *args):
    print(len(args[0]), flush=True)
    time.sleep(float(sys.argv[1]))
    return calm(self, *args)
Persistence.forecast = forecast
run_evaluation(dict(data_dir="data", context_length=40, prediction_length=20, n_windows=2, n_examples=0, n_bootstrap=200, baselines=["mean", "persistence"], batch_size=2, output_dir=sys.argv[2]), Console(quiet=True))
"""


def test_a_killed_job_goes_on_within_a_forecaster(job, tmp_path):
    def start(seconds, folder): return subprocess.Popen([sys.executable, "-c", KILLED, str(seconds), folder], stdout=subprocess.PIPE, text=True)
    first = start(20, "killed")
    first.stdout.readline()  # in the middle of its first batch
    first.kill(); first.wait()
    assert not (tmp_path / "killed" / "rows.parquet").exists()
    second = start(0.3, "killed")
    for _ in range(4): second.stdout.readline()  # the fourth batch has begun, so three are kept
    second.kill(); second.wait()
    pieces = [p for p in (tmp_path / "killed" / "parts").iterdir() if p.is_dir()]
    assert len(pieces) == 1 and len(list(pieces[0].glob("*.parquet"))) == 3
    third = start(0, "killed")
    asked = third.communicate()[0].split()
    whole = start(0, "whole").communicate()[0].split()
    assert third.returncode == 0 and len(asked) == len(whole) - 3 > 0
    pd.testing.assert_frame_equal(read_rows("killed/rows.parquet"), read_rows("whole/rows.parquet"))
    assert (tmp_path / "killed" / "rows.parquet").read_bytes() == (tmp_path / "whole" / "rows.parquet").read_bytes()
    assert not [p for p in (tmp_path / "killed" / "parts").iterdir() if p.is_dir()]


def test_job_is_the_same_when_called_from_python(job):
    from chronos_dysts.store import open_store
    run_evaluation(job | dict(systems=["Alpha", "Gamma"], n_trajectories=1), QUIET)
    rows = evaluate([BASELINES[name]() for name in EvaluationConfig.baselines], [t for t in open_store("data/test", ["Alpha", "Gamma"]) if t.item_id.endswith("/0")], Protocol(40, 20, n_windows=2))
    pd.testing.assert_frame_equal(rows, read_rows("evaluation/rows.parquet"))
    summary = pd.read_csv("evaluation/summary.csv")
    assert np.allclose(summary["median"], summarise(rows)["median"], equal_nan=True)


def test_output_of_another_configuration_is_never_overwritten(job, tmp_path):
    report = run_evaluation(job, QUIET)
    before = report.read_bytes()
    with pytest.raises(FileExistsError, match="n_windows=2 there, n_windows=3 asked for.*choose another output_dir"):
        run_evaluation(job | dict(n_windows=3), QUIET)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match="mine is not empty"):
        run_evaluation(job | dict(output_dir="mine"), QUIET)
    assert report.read_bytes() == before


@pytest.mark.parametrize("bad, error, said", [
    (dict(data_dir="nowhere"), FileNotFoundError, "nowhere"), (dict(systems=["Alfa"]), ValueError, "Alfa"), (dict(contxt_length=3), ValueError, "did you mean 'context_length'"), (dict(baselines=[]), ValueError, "nothing to evaluate"),
    (dict(baselines=["parot"]), ValueError, "did you mean 'parroting'"), (dict(context_length=140), ValueError, "150 points"), (dict(n_trajectories=0), ValueError, "n_trajectories"), (dict(metrics="mea"), ValueError, "mae"),
    (dict(model_id="no/such/checkpoint"), ValueError, "no/such/checkpoint")])
def test_job_refuses_bad_values_before_it_writes(job, tmp_path, bad, error, said):
    with pytest.raises(error, match=said):
        run_evaluation(job | bad, QUIET)
    assert not (tmp_path / "evaluation").exists()


def test_configuration_file_has_the_defaults_and_a_comment_behind_every_key(root):
    text = (root / "chronos_dysts" / "configs" / "evaluation.yaml").read_text()
    defaults = {k: list(v) if isinstance(v, tuple) else v for k, v in EvaluationConfig().__dict__.items()}
    assert yaml.safe_load(text) == defaults
    assert all(re.search(r"\S +# \S", line) for line in text.splitlines()[1:])


def test_names_of_models():
    names = lambda model_id: list(EvaluationConfig(model_id=model_id).models)
    assert names("runs/finetune_1/final") == ["finetune_1"] and names("amazon/chronos-t5-tiny") == ["chronos-t5-tiny"] and names("runs/a/checkpoint-500") == ["a/checkpoint-500"]
    assert names(["a/final", "b/final"]) == ["a", "b"] and names(["x/a/final", "y/a/final"]) == ["x/a/final", "y/a/final"] and names({"mine": "x"}) == ["mine"] and names("some/mean") == ["some/mean"]


def test_a_model_is_evaluated_from_its_checkpoint(job):
    from chronos_dysts import models
    model = models.build("chronos-bolt", "nano")
    models.set_lengths(model, 40, 20)
    models.save(model, "run/final", {"systems": ["Alpha"]})
    said = []
    console = Console(quiet=False, width=300, force_terminal=False, file=type("F", (), {"write": lambda self, x: said.append(x), "flush": lambda self: None})())
    report = run_evaluation(job | dict(model_id="run/final", baselines=["parroting"]), console)
    rows, page = read_rows(report.parent / "rows.parquet"), report.read_text()
    assert set(rows.forecaster) == {"run", "parroting"} and "held-out" in page and "on both sides: Alpha" in page
    assert rows[(rows.forecaster == "run") & (rows.metric == "coverage80")].value.between(0, 1).all()
    assert "Evaluated run, parroting on 16 windows of 4 systems" in "".join(said) and "report.html" in "".join(said)

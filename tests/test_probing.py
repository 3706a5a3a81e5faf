"""The instruments that look into a model: what all share, embeddings and Koopman spectra; and that a killed run goes on."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from chronos_dysts import cli, models
from chronos_dysts.forecasting import Standardiser
from chronos_dysts.integration import integrate_ensemble
from chronos_dysts.lyapunov import reference_exponents
from chronos_dysts.probing import common, embeddings, koopman
from chronos_dysts.store import Trajectory, write_trajectory
from chronos_dysts.systems import get_system

ROOT = Path(__file__).resolve().parent.parent
FLOWS = ("Lorenz", "Rossler", "Thomas", "Aizawa", "Chua", "HyperLorenz")


def flow(name, length, rate, number=0):
    system = get_system(name)
    made = integrate_ensemble(system, length=length, points_per_period=rate, transient=10 + 3 * number)
    return Trajectory(made.observed()[0].astype(np.float32), f"{name}/{number}", name, system.params, made.states[0, :, 0], system.period / rate, system.period, 0)


@pytest.fixture(scope="module")
def trajectories():
    return [flow(name, 600, rate, k) for name in FLOWS for k, rate in enumerate((20, 40))]


@pytest.fixture(scope="module")
def data(trajectories, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for t in trajectories:
        write_trajectory(t, folder / "test" / t.system / f"{t.item_id[-1]}_T-600.arrow")
    return folder


@pytest.fixture(scope="module")
def trio():
    return {family: models.forecaster(models.build(family, context_length=64, seed=2), family) for family in models.FAMILIES}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, trio):
    return models.save(models.build("chronos-bolt", context_length=64, seed=2), tmp_path_factory.mktemp("models") / "small")


# ---- states ----


@pytest.mark.parametrize("family", [family for family in models.FAMILIES if family != "chronos-dysts"])
def test_states_are_what_the_packaged_embed_gives(trio, family):
    forecaster, x = trio[family], np.random.default_rng(0).normal(size=(3, 2, 64)).cumsum(-1)
    standard = torch.from_numpy(Standardiser.of(x).apply(x).astype(np.float32))
    inside = common.states(forecaster, x)
    assert list(inside) == common.layers(forecaster) == ["input", "encoder.block.0", "encoder.block.1", "encoder.final_layer_norm"]
    packaged = forecaster.embed(standard if family == "chronos-2" else standard.reshape(6, 64))[0]
    packaged = torch.stack(list(packaged)) if family == "chronos-2" else packaged.reshape(3, 2, *packaged.shape[1:])
    count = 64 if family == "chronos-t5" else 4
    last = inside["encoder.final_layer_norm"]
    assert last.shape == (3, 2, count, 64) and torch.allclose(last, packaged[:, :, :count], atol=1e-5)
    assert torch.allclose(common.states(forecaster, x[1:2], "encoder.block.0")["encoder.block.0"], inside["encoder.block.0"][1:2], atol=1e-5), "windows do not influence each other"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in forecaster.model.modules()), "no hook stays"


def test_states_of_our_own_architecture_are_those_it_gives_by_itself(trio):
    forecaster, x = trio["chronos-dysts"], np.random.default_rng(0).normal(size=(3, 2, 64)).cumsum(-1)
    inside = common.states(forecaster, x)
    assert list(inside) == common.layers(forecaster) == ["input", "layers.0", "layers.1", "layers.2", "norm"]
    rows = torch.from_numpy(Standardiser.of(x).apply(x).astype(np.float32)).reshape(6, 64)
    with torch.no_grad():
        own = forecaster.model(rows, torch.arange(3).repeat_interleave(2), output_hidden_states=True).hidden_states
        ahead = forecaster.model.norm(own[-1][:, 4:]).reshape(3, 2, 4, -1)
    for state, (name, found) in zip(own, list(inside.items())[:-1], strict=True): assert found.shape == (3, 2, 4, 96) and torch.allclose(state.reshape(3, 2, 8, -1)[:, :, :4], found, atol=1e-5), name
    assert torch.allclose(inside["norm"], ahead, atol=1e-5), "the last norm has the patches of the forecast"
    assert [name for name in inside if common.is_ahead(forecaster, name)] == ["norm"]
    across = common.states(forecaster, x, "layers.0.channels")["layers.0.channels"]
    assert across.shape == (3, 2, 4, 96) and torch.allclose(common.states(forecaster, x[:, ::-1], "layers.0.channels")["layers.0.channels"], across.flip(1), atol=1e-5), "coordinates before tokens, whatever the attention is over"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in forecaster.model.modules()), "no hook stays"


def test_more_windows_than_a_batch_of_the_pipeline(trio):
    x = np.random.default_rng(1).normal(size=(70, 1, 64)).cumsum(-1)
    inside = common.states(trio["chronos-dysts"], x, ["input", "norm"])
    for name, alone in common.states(trio["chronos-dysts"], x[-2:], ["input", "norm"]).items(): assert torch.allclose(inside[name][-2:], alone, atol=1e-4), name


def test_an_architecture_that_nobody_knows_gives_its_states():
    """Blocks are found wherever they are; a state of all coordinates together has dim 1."""

    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = SimpleNamespace(chronos_config={})
            self.device = torch.device("cpu")
            self.trunk = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(3))

        def forward(self, x):
            for block in self.trunk:
                x = block(x)
            return x

    model = Other()
    other = SimpleNamespace(model=model, name="other", family="other", standardise=False, context_length=64, embed=lambda x: model(x.mean(1).reshape(len(x), 8, 8)))
    assert common.layers(other) == ["input", "trunk.0", "trunk.1", "trunk.2"]
    inside = common.states(other, np.ones((2, 3, 64)))
    assert {name: tuple(state.shape) for name, state in inside.items()} == dict.fromkeys(common.layers(other), (2, 1, 8, 8))


@pytest.mark.parametrize(("layer", "said"), [("encoder.block.9", "its layers are input, encoder.block.0"), ("", "no layer ''"), ("decoder.block.0", "takes no part"), ("encoder.block", "takes no part")])
def test_a_layer_that_does_not_exist_or_does_not_work_is_refused(trio, layer, said):
    with pytest.raises(ValueError, match=said):
        common.states(trio["chronos-bolt"], np.ones((1, 1, 64)) * np.arange(64), layer)
    assert not any(module._forward_hooks for module in trio["chronos-bolt"].model.modules())


def test_a_random_twin_is_another_network_and_leaves_the_random_state(trio):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    twin = common.random_twin(trio["chronos-2"], 3)
    assert torch.equal(before, torch.random.get_rng_state())
    mine, other = (dict(f.model.named_parameters()) for f in (trio["chronos-2"], twin))
    assert {n: p.shape for n, p in mine.items()} == {n: p.shape for n, p in other.items()}
    weights = [n for n, p in mine.items() if p.ndim == 2]
    assert not any(torch.equal(mine[n], other[n]) for n in weights)
    assert abs(np.mean([float((mine[n].std() / other[n].std()).detach()) for n in weights]) - 1) < 0.2, "drawn as for training"


def test_families_that_share_a_founder_are_one_group():
    groups = common.family_groups({"a": ["A"], "b": ["B"], "ab": ["A", "B"], "c": ["C"], "bc": ["B", "C"], "d": ["D"]})
    assert len({groups[name] for name in ("a", "b", "ab", "c", "bc")}) == 1 and groups["d"] != groups["a"]


# ---- a run ----


def config(folder, **changes):
    return common.ProbeConfig(**{"model_id": "chronos-dysts-generic-bolt", "output_dir": str(folder)} | changes)


def test_a_run_keeps_pieces_and_refuses_what_is_not_its_own(tmp_path):
    with common.open_run(config(tmp_path / "run"), 1) as run:
        run.piece("a", lambda: pd.DataFrame({"x": [1.0]}))
        with pytest.raises(BlockingIOError, match="works on"), common.open_run(config(tmp_path / "run"), 1):
            pass
        run.finish(["found"])
    with common.open_run(config(tmp_path / "run", device="cuda"), 1) as run:  # where it runs changes nothing
        run.piece("a", lambda: pytest.fail("it is there"))
    with common.open_run(config(tmp_path / "run"), 2) as run:
        run.piece("a", lambda: pd.DataFrame({"x": [2.0]}))
        run.finish(["found"])
    assert len(list((tmp_path / "run" / "pieces").iterdir())) == 1, "the piece of other inputs is gone"
    with pytest.raises(FileExistsError, match="seed=0 there, seed=4"), common.open_run(config(tmp_path / "run", seed=4), 2):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="not empty"), common.open_run(config(tmp_path / "mine"), 2):
        pass


# ---- embeddings ----


def digests(folder, suffixes=(".arrow", ".parquet", ".png")):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).rglob("*")) if path.suffix in suffixes}


def test_a_stream_goes_on_where_it_stopped_and_gives_the_same_bytes(trio, trajectories, tmp_path):
    windows = embeddings.spread_windows(trajectories, 64, 10)
    whole = embeddings.stream_states(trio["chronos-bolt"], windows, tmp_path / "whole", per_token=True, shard=32, key="k")

    def stop(done):
        if done > 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embeddings.stream_states(trio["chronos-bolt"], windows, tmp_path / "parts", per_token=True, shard=32, key="k", progress=stop)
    assert len(list((tmp_path / "parts" / "states").iterdir())) == 2 and not list(tmp_path.rglob("*.tmp"))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "states").iterdir()}
    embeddings.stream_states(trio["chronos-bolt"], windows, tmp_path / "parts", per_token=True, shard=32, key="k")
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    table, inside = embeddings.read_states(whole)
    assert (table["window"] == range(len(windows))).all() and table["system"].tolist() == windows.table["system"].tolist()
    # per token, in half precision, and the mean of that is what is pooled
    import pyarrow as pa

    tokens = pa.concat_tables(pa.ipc.open_file(str(path)).read_all() for path in sorted((tmp_path / "whole" / "tokens").iterdir()))
    assert len(tokens) == sum(trajectories[i].dim for i in windows.table["trajectory"]) * 4
    one = tokens.filter(pa.array(tokens["window"].to_numpy() == 50))
    assert np.allclose(np.stack(one["encoder.block.1"].to_pylist()).mean(0), inside["encoder.block.1"][50], atol=2e-2)


def test_a_shard_that_is_damaged_or_of_another_run_is_made_again(trio, trajectories, tmp_path):
    windows = embeddings.spread_windows(trajectories[:2], 64, 10)
    where = embeddings.stream_states(trio["chronos-bolt"], windows, tmp_path, shard=8, key="a")
    before = digests(tmp_path)
    (where / "00001.arrow").write_bytes(b"nothing")
    embeddings.stream_states(trio["chronos-bolt"], windows, tmp_path, shard=8, key="a")
    assert digests(tmp_path) == before
    embeddings.stream_states(trio["chronos-bolt"], embeddings.spread_windows(trajectories[:1], 64, 10), tmp_path, shard=8, key="b")
    assert len(list(where.iterdir())) == 2 and len(embeddings.read_states(where)[0]) == 10


def test_memory_is_bounded_by_a_batch(trio, trajectories, tmp_path, monkeypatch):
    """However many windows there are in a shard, what is written at once is what the model had read at once."""
    import pyarrow as pa

    windows, read = embeddings.spread_windows(trajectories[:4], 64, 200), []
    states = embeddings.states
    monkeypatch.setattr(embeddings, "states", lambda f, x, *more: read.append(len(x)) or states(f, x, *more))
    where = embeddings.stream_states(trio["chronos-bolt"], windows, tmp_path, ["input"], batch_size=64)
    file = pa.ipc.open_file(str(where / "00000.arrow"))
    assert [file.get_batch(k).num_rows for k in range(file.num_record_batches)] == read and max(read) == 64 and sum(read) == 800


def test_windows_are_spread_and_refused(trajectories):
    windows = embeddings.spread_windows(trajectories[:1], 100, 6)
    assert windows.table["start"].tolist() == [0, 100, 200, 300, 400, 500]
    with pytest.raises(ValueError, match="room for 0 windows of 700 steps, not 2"):
        embeddings.spread_windows(trajectories, 700, 2)


def test_autocorrelations_are_those_of_the_definition():
    x = np.random.default_rng(0).normal(size=(2, 3, 80)).cumsum(-1)
    z = x - x.mean(-1, keepdims=True)
    lags = np.unique(np.geomspace(1, 40, 32).round().astype(int))
    direct = np.stack([[(z[b, :, :80 - k] * z[b, :, k:]).sum(-1) / (z[b] ** 2).sum(-1) for k in lags] for b in range(2)]).mean(-1)
    assert np.allclose(embeddings.autocorrelation_features(x), direct)


def test_labels(trajectories):
    known = embeddings.label(trajectories)
    lorenz = known[known["system"] == "Lorenz"].iloc[0]
    assert lorenz["lyapunov"] == pytest.approx(np.log10(reference_exponents("Lorenz").exponents[0] * trajectories[0].period)) and lorenz["regime"] == "chaotic"
    assert lorenz["dimension"] == pytest.approx(2.06, abs=0.02) and lorenz["period"] == pytest.approx(np.log2(20))
    assert (known.loc[known["system"] == "HyperLorenz", "regime"] == "hyperchaotic").all()
    unknown = embeddings.label([Trajectory(np.zeros((1, 5), np.float32), "x", "mine", {}, np.zeros(1), 0.1, 1.0, 0)]).iloc[0]
    assert unknown[["lyapunov", "dimension", "regime"]].isna().all()
    measured = embeddings.label(trajectories[:1], {"Lorenz": get_system("Lorenz")}).iloc[0]
    assert measured["lyapunov"] == pytest.approx(lorenz["lyapunov"], abs=0.05) and measured["dimension"] == pytest.approx(2.06, abs=0.02)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_probe_finds_what_is_there_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(30), 8)
    x, y = rng.normal(size=(240, 10)), rng.normal(size=240)
    told = np.column_stack([x, y])
    assert embeddings.score(y, embeddings.probe(told, y, groups), groups, n_bootstrap=50)[0] > 0.99
    value, low, high = embeddings.score(y, embeddings.probe(x, y, groups), groups, n_bootstrap=50)
    assert value < 0.05 and low < value < high
    kind = np.where(y > 0.5, "high", np.where(y < -0.5, "low", "middle"))
    one_hot = np.column_stack([x, *(kind == name for name in np.unique(kind))])
    assert embeddings.score(kind, embeddings.probe(one_hot, kind, groups), groups, n_bootstrap=50)[0] > 0.99
    assert abs(embeddings.score(kind, embeddings.probe(x, kind, groups), groups, n_bootstrap=50)[0] - 1 / 3) < 0.12


def test_shuffled_labels_stay_together():
    owners = np.repeat(["a", "b", "c", "d"], 3)
    labels = np.repeat([1.0, 2.0, 3.0, 4.0], 3)
    dealt = embeddings._shuffled(labels, owners, np.random.default_rng(2))
    assert all(len(set(dealt[owners == name])) == 1 for name in "abcd") and sorted(dealt) == sorted(labels) and (dealt != labels).any()


@pytest.mark.parametrize(("count", "folds", "said"), [(4, 5, "at least 5 groups with a known label, and there are 4.*folds=4"), (2, 2, "at least 3"), (9, 1, "at least 2 folds")])
def test_too_few_groups_for_a_probe(count, folds, said):
    with pytest.raises(ValueError, match=said):
        embeddings.probe(np.ones((count, 2)), np.arange(float(count)), np.arange(count), folds=folds)


def test_cka_knows_geometry_and_nothing_else():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 8)) * np.arange(1, 9), rng.normal(size=(60, 100))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert embeddings.cka(a, a @ turn * 3 - 5) == pytest.approx(1) and embeddings.cka(a, b) == pytest.approx(embeddings.cka(b, a))
    assert abs(np.mean([embeddings.cka(a, rng.normal(size=(60, 100))) for _ in range(20)])) < 0.03
    table = embeddings.cka_table({"x": a, "y": b}, {"x": a}, np.repeat(np.arange(12), 5))
    same = table[(table["first"] == "x")].iloc[0]
    assert same["cka"] == pytest.approx(1) and same["high"] - same["low"] < 1e-6
    other = table[table["first"] == "y"].iloc[0]
    assert other["low"] < 0.1 and other["high"] > -0.1 and other["high"] - other["low"] > 0.005
    with pytest.raises(ValueError, match="at least 4 windows, not 3"):
        embeddings.cka(a[:3], a[:3])


def test_maps():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 2)) * (9, 3)
    flat = plane @ np.linalg.qr(rng.normal(size=(6, 6)))[0][:2] * np.ones(6)
    made = embeddings.map_states(flat)
    assert np.array_equal(made, embeddings.map_states(flat))
    with pytest.raises(ValueError, match="pca or umap, not 'tsne'"):
        embeddings.map_states(flat, "tsne")
    with pytest.raises(ValueError, match="at least 16 windows, not 9"):
        embeddings.map_states(flat[:9], "umap")


# ---- Koopman ----


@pytest.mark.parametrize("seed", range(4))
def test_a_torus_returns_its_frequencies(seed):
    rng = np.random.default_rng([seed, 1])
    cycles = rng.uniform(0.3, 0.5), rng.uniform(0.8, 1.2)
    one, two = (2 * np.pi * (f * np.arange(1600) * 0.05 + rng.uniform()) for f in cycles)
    x = np.stack([(2 + np.cos(one)) * np.cos(two), (2 + np.cos(one)) * np.sin(two), np.sin(one)], 1)
    found = koopman.modes_of(koopman.fit_operator(x[:800], "hankel", rank=9, delays=20), x[800:], 20)
    good = found[~found["condemned"]]
    assert all(np.abs(good["cycles"] - f).min() < 1e-3 for f in cycles)
    assert good["kept"].between(0.999, 1.001).all()
    kernel = koopman.modes_of(koopman.fit_operator(x[:800], "edmd", rank=25), x[800:], 20)
    assert all(np.abs(kernel.loc[~kernel["condemned"], "cycles"] - f).min() < 5e-3 for f in cycles)


@pytest.mark.parametrize(("gamma", "omega"), [(0.03, 0.8), (0.3, 2.0)])
def test_an_oscillator_returns_its_decay(gamma, omega):
    wave = np.exp((-gamma + 1j * omega) * 0.1 * np.arange(300))
    x = np.stack([wave.real, wave.imag], 1) + [2.0, -1.0]  # about another point than zero
    mode = koopman.modes_of(koopman.fit_operator(x[:180], "dmd", rank=3), x[180:], 10).iloc[0]
    assert np.hypot(mode["real"], mode["imag"]) == pytest.approx(np.exp(-gamma * 0.1), abs=1e-6)
    assert np.arctan2(mode["imag"], mode["real"]) == pytest.approx(omega * 0.1, abs=1e-6) and not mode["condemned"]


@pytest.mark.parametrize(("name", "rank", "delays"), [("Lorenz", 12, 20), ("Lorenz", 48, 60), ("LorenzBounded", 32, 40), ("SprottB", 24, 40)])
def test_chaos_that_mixes_has_no_undamped_mode_that_is_not_condemned(name, rank, delays):
    x = integrate_ensemble(get_system(name), length=4000, points_per_period=25, transient=20).observed()[0].T
    for method in ("dmd", "hankel", "edmd"):
        found = koopman.modes_of(koopman.fit_operator(x[:1000] if method == "edmd" else x[:2000], method, rank=rank, delays=delays), x[2000:], 25)
        assert found.loc[found["undamped"], "condemned"].all(), (method, found[found["undamped"]])


def test_a_residual_is_what_its_formula_says():
    rng = np.random.default_rng(0)
    phi = rng.normal(size=(500, 1)) + 1j * rng.normal(size=(500, 1))
    spurious = koopman.Operator("dmd", np.array([1j]), lambda x: phi[:len(x)], None)
    found = koopman.modes_of(spurious, np.zeros((500, 1)), 4).iloc[0]
    assert found["residual"] == pytest.approx(np.sqrt(2), abs=0.1) and found["condemned"] and found["undamped"] and found["cycles"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="period of 500 steps need more than so many states, not 500"):
        koopman.modes_of(spurious, np.zeros((500, 1)), 500)


def test_too_few_states_for_a_rank():
    x = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(ValueError, match="rank 20 is fitted to at least 40 pairs of states, and the stretch has 39: take rank=19"):
        koopman.fit_operator(x, rank=20)
    with pytest.raises(ValueError, match="did you mean 'hankel'"):
        koopman.fit_operator(x, "hankle")
    with pytest.raises(ValueError, match="at least 1"):
        koopman.fit_operator(x, rank=0)


def test_windows_slide(trio, trajectories):
    x = trajectories[0].target
    for family, forecaster in trio.items():
        last = common.layers(forecaster)[-1]
        inside = koopman.sliding_states(forecaster, x, 64, 16, batch_size=5)[last]
        assert inside.shape == ((600 - 64) // 16 + 1, 3 * forecaster.model.config.d_model)
        alone = common.states(forecaster, x[None, :, 160:224], last)[last][0, :, 0 if common.is_ahead(forecaster, last) else -1].reshape(-1)
        assert np.allclose(inside[10], alone.numpy(), atol=1e-4), family
    delayed = koopman.delay_states(x, 64, 16)
    assert np.allclose(delayed[10].reshape(3, 4), x[:, [223, 207, 191, 175]])


def test_a_linear_flow_is_forecast_and_halves_do_not_overlap():
    turn = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    x = np.stack([np.linalg.matrix_power(turn, k) @ [1.0, 0.0] for k in range(200)]) + 3
    first, second = koopman.split_states(x, 21)
    assert len(first) == len(second) == 89 and np.array_equal(second[-1], x[-1])
    for method in ("dmd", "hankel"):
        errors = koopman.forecast_errors(koopman.fit_operator(first, method, rank=3, delays=3), second, (1, 20), first.mean(0))
        assert (errors["error"] < 1e-12).all() and (errors["persistence"] > 0.03).all()
    with pytest.raises(ValueError, match="horizons up to 89"):
        koopman.forecast_errors(koopman.fit_operator(first, rank=3), second, (89,), first.mean(0))


# ---- the commands ----


@pytest.fixture
def words(data, checkpoint):
    def words(instrument, out, *more):
        sizes = {"embeddings": ("n_windows=6", "context_length=64", "probes=[lyapunov,period,system]", "maps=[pca]", "folds=3", "n_bootstrap=50", "shard=16"),
                 "koopman": ("context_length=64", "rank=6", "delays=3", "horizons=[1,4]", "n_bootstrap=50")}[instrument]
        keys = {word.partition("=")[0] for word in more}
        return ["probe", instrument, f"model_id={checkpoint}", f"data_dir={data}", f"output_dir={out}", *(word for word in sizes if word.partition("=")[0] not in keys), *more]
    return words


def test_embeddings_from_the_shell(words, tmp_path, capsys):
    assert cli.main([*words("embeddings", tmp_path / "out"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["made"]
    assert made["windows"] == 72 and all((tmp_path / "out" / name).is_file() for name in made["files"])
    scores = pd.read_parquet(tmp_path / "out" / "probes.parquet")
    assert {"small", "small, random weights", "small, shuffled labels", "autocorrelations"} == set(scores["features"]) and set(scores["probe"]) == {"lyapunov", "period", "system"}
    assert (scores["low"] <= scores["value"]).all() and (scores["value"] <= scores["high"]).all()
    by_period = scores[(scores["probe"] == "period") & (scores["features"] == "autocorrelations")]
    assert (scores[(scores["probe"] == "lyapunov")]["families"] == 5).all(), "HyperLorenz is of Lorenz' family"
    assert len(by_period) == 1
    before = digests(tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "states").iterdir()}
    assert cli.main(words("embeddings", tmp_path / "out")) == 0
    assert digests(tmp_path / "out") == before and all(path.stat().st_mtime_ns == when for path, when in stamps.items())
    from chronos_dysts.embedding_explorer import EmbeddingExplorer

    on_map = EmbeddingExplorer(tmp_path / "out").choose("Chua", 3)
    assert on_map.system == "Chua" and np.allclose(on_map.window, on_map.trajectory[:, on_map.start:on_map.start + 64])


def test_koopman_from_the_shell(words, tmp_path, capsys):
    assert cli.main([*words("koopman", tmp_path / "out", "systems=[Lorenz,Thomas]"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["made"]
    assert made["trajectories"] == 2 and all((tmp_path / "out" / name).is_file() for name in made["files"])
    modes, errors = (pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("modes", "forecasts"))
    assert set(modes["features"]) == {"small", "random weights", "delay coordinates"} == set(errors["features"]) and set(modes["method"]) == set(koopman.METHODS)
    assert len(errors) == 2 * 3 * 3 * 2 and (errors["persistence"] > 0).all()


@pytest.mark.parametrize(("instrument", "more", "said"), [
    ("embeddings", ["layers=[encoder.block.7]"], "no layer 'encoder.block.7': its layers are input"),
    ("embeddings", ["folds=9"], "at least 9 families with a known label, and there are 5"),
    ("embeddings", ["context_length=300"], "more than the 64 steps"),
    ("embeddings", ["n_windows=600"], "room for 537 windows"),
    ("embeddings", ["probes=lyapunow"], "did you mean 'lyapunov'"),
    ("embeddings", ["systems=[Lorentz]"], "no trajectory of Lorentz"),
    ("embeddings", ["model_id=null"], "model_id names no model"),
    ("koopman", ["rank=40"], "at least 80 pairs of states, and the first half of"),
    ("koopman", ["horizons=[500]"], "lower horizons"),
    ("koopman", ["layers=nothing"], "no layer 'nothing'"),
    ("koopman", ["methods=dnd"], "did you mean 'dmd'"),
])
def test_what_cannot_be_done_is_refused_before_anything_is_written(instrument, more, said, words, tmp_path, capsys):
    assert cli.main(words(instrument, tmp_path / "out", *more)) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("instrument", ["embeddings", "koopman"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(instrument, words, tmp_path):
    out, more = tmp_path / "out", ("systems=[Lorenz,Thomas,Rossler]", *(["probes=[period]"] if instrument == "embeddings" else []))
    code = "import sys; from chronos_dysts.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *words(instrument, out, *more)], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while len(done := [*out.rglob("*.arrow"), *out.glob("pieces/*.parquet")]) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert done and process.returncode == -signal.SIGKILL and not (out / "summary.txt").exists(), process.stderr.read()
    kept = {path: path.stat().st_mtime_ns for path in done}
    assert cli.main(words(instrument, out, *more)) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items() if path.exists())
    assert cli.main(words(instrument, tmp_path / "whole", *more)) == 0
    names = lambda found: {name: digest for name, digest in found.items() if not name.startswith("pieces")}
    assert names(digests(out, (".parquet", ".png"))) == names(digests(tmp_path / "whole", (".parquet", ".png")))
    assert len(digests(out, (".arrow",))) == len(digests(tmp_path / "whole", (".arrow",)))

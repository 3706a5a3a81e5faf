"""The demo: the whole road on a few flows, twice over, from random weights and from a checkpoint."""

import re

import pandas as pd
import pytest
from rich.console import Console

from chronos_dysts import models
from chronos_dysts.demo import DemoConfig, demo
from chronos_dysts.evaluation import read_rows
from chronos_dysts.store import open_store, read_manifest

SMALL = {"context_length": 64, "prediction_length": 16, "seed": 0,
         "generate": {"systems": ["Lorenz", "Halvorsen", "Thomas", "Rossler", "Chua"], "n_params": 2, "length": 256, "points_per_period": 32},
         "train": {"max_steps": 6, "per_device_train_batch_size": 4}, "evaluate": {"n_windows": 2, "n_bootstrap": 50}}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    console = Console(record=True, width=300)
    return folder, demo(SMALL | {"output_dir": folder}, console), console.export_text()


def test_each_stage_says_what_it_made_and_where(done):
    folder, result, said = done
    for line in (r"1/4 Generate", r"Made 6 train, 0 validation, 4 test trajectories of 5 systems in .*demo/data", r"2/4 Model", r"3/4 Train",
                 r"Made .*runs/after/final: 6 steps", r"4/4 Evaluate", r"Open .*report\.html in a browser"):
        assert re.search(line, said), (line, said)
    assert result.report == folder / "evaluation" / "report.html" and set(result.seconds) == {"Generate", "Model", "Train", "Evaluate"}


def test_the_forecasts_are_of_flows_that_were_not_in_training(done):
    folder, *_ = done
    manifest = read_manifest(folder / "data")
    trained = models.load_made(folder / "runs" / "after" / "final")["systems"]
    scored = set(read_rows(folder / "evaluation" / "rows.parquet")["system"])
    assert set(trained) == set(open_store(folder / "data" / "train").systems) == set(manifest["split"]["train"])
    assert scored == set(manifest["split"]["test"])
    family = lambda names: {member for name in names for member in manifest["families"][name]}
    assert len(scored) == 2 and not family(scored) & family(trained)
    report = (folder / "evaluation" / "report.html").read_text()
    assert all(name in report for name in scored) and report.count("<svg") + report.count("data:image/png") >= 2
    assert not re.search(r"""(?:src|href)=["']https?://""", report)


def test_the_shipped_model_is_judged_by_flows_that_it_has_no_relative_of(done):
    folder, _, said = done
    manifest, seen = read_manifest(folder / "data"), set(models.load_made("chronos-dysts-nano")["families"])
    unseen = {name for name in manifest["split"]["test"] if not seen & set(manifest["families"][name])}
    place = folder / "evaluation-chronos-dysts-nano"
    assert place.exists() == bool(unseen) != ("has seen relatives of all" in said)
    if unseen:
        rows = read_rows(place / "rows.parquet")
        assert set(rows["system"]) == unseen and {"chronos-dysts-nano", "parroting"} <= set(rows["forecaster"])


def test_all_are_scored_on_the_same_windows(done):
    rows = read_rows(done[0] / "evaluation" / "rows.parquet")
    windows = rows.groupby("forecaster").apply(lambda part: frozenset(zip(part["trajectory"], part["window"])), include_groups=False)
    assert set(windows.index) == {"before", "after", "persistence", "mean", "parroting"} and windows.nunique() == 1
    mae = rows[rows["metric"] == "mae"].groupby("forecaster")["value"].mean()
    assert mae["before"] != mae["after"] and pd.notna(mae).all()


def test_the_same_again_changes_nothing(done):
    folder, *_ = done
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".arrow", ".safetensors", ".parquet")}
    console = Console(record=True, width=300)
    demo(SMALL | {"output_dir": str(folder)}, console)
    assert {path: path.read_bytes() for path in before} == before
    assert "is finished" in console.export_text()


def test_another_configuration_does_not_overwrite_it(done):
    folder, *_ = done
    for change in ({"seed": 1}, {"generate": SMALL["generate"] | {"n_params": 3}}, {"train": SMALL["train"] | {"max_steps": 7}}):
        with pytest.raises(FileExistsError, match="another configuration"):
            demo(SMALL | {"output_dir": str(folder)} | change, Console(quiet=True))


@pytest.mark.parametrize("family", ["chronos-t5", "chronos-2"])
def test_a_checkpoint_walks_the_same_road(family, tmp_path):
    model = models.build(family, "nano", context_length=64, prediction_length=16, seed=1, **({"n_tokens": 64} if family == "chronos-t5" else {}))
    models.save(model, tmp_path / "base", {"seed": 1, "systems": []})
    config = SMALL | {"output_dir": str(tmp_path / "demo"), "model_id": str(tmp_path / "base"),
                      "train": {"max_steps": 2, "per_device_train_batch_size": 2}, "evaluate": {"n_windows": 1, "n_bootstrap": 20}}
    demo(config, Console(quiet=True))
    assert models.load(tmp_path / "demo" / "runs" / "after" / "final").family == family
    assert set(read_rows(tmp_path / "demo" / "evaluation" / "rows.parquet")["forecaster"]) >= {"before", "after"}


@pytest.mark.parametrize("change, message", [
    ({"contxt_length": 3}, "did you mean 'context_length'"), ({"generate": {"length": 40}}, "generate.length=40"),
    ({"generate": {"n_parms": 3}}, "n_parms"), ({"train": {"max_step": 3}}, "max_step"), ({"evaluate": {"n_window": 3}}, "n_window"),
    ({"family": "chronos-t6"}, "chronos-t6"), ({"model_id": "no/such/folder/here"}, "no/such/folder/here")])
def test_a_mistake_in_any_stage_is_told_before_the_first_begins(change, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        demo(SMALL | {"output_dir": str(tmp_path / "demo")} | change, Console(quiet=True))
    assert not (tmp_path / "demo" / "data").exists()


def test_defaults_follow_the_model():
    assert DemoConfig().stages()["train"]["train"] == {"log_steps": 500, "max_steps": 7000}
    assert DemoConfig(model_id="amazon/chronos-t5-tiny").stages()["train"]["train"] == {"log_steps": 20, "max_steps": 200}
    assert DemoConfig(family="chronos-2", train={"max_steps": None}).stages()["train"]["train"] == {"log_steps": 500, "max_steps": 7000}

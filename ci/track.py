"""Reads back with MLflow's own client what `karat run --track` told the server: usage track.py URL FOLDER."""

import hashlib
import json
import math
import pathlib
import sys

from mlflow import MlflowClient

url, folder = sys.argv[1], pathlib.Path(sys.argv[2])
client = MlflowClient(tracking_uri=url, registry_uri=url)
ours = json.loads((folder / "run.json").read_text())
report = json.loads((folder / "out" / "report.json").read_text())

experiment = client.get_experiment_by_name("flights")
runs = client.search_runs([experiment.experiment_id])
assert len(runs) == 1, f"told twice, {len(runs)} runs are there"
run = runs[0]
assert run.info.status == "FINISHED", run.info.status
assert run.data.tags["karat.run"] == ours["run"]
assert run.data.tags["karat.outcome"] == "pass"
assert run.data.tags["dvc.head.txt"] == hashlib.md5(b"PAR1").hexdigest()
assert run.data.params["seed"] == str(ours["seed"])
assert len(run.data.params) > 10, run.data.params

losses = client.get_metric_history(run.info.run_id, "loss")
updates = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
assert [it.step for it in losses] == [it["update"] for it in updates], "one loss an update"
assert all(math.isclose(a.value, b["loss"], rel_tol=1e-12) for a, b in zip(losses, updates))
cells = [it for it in report["verdict"]["report"]["cells"] if it["slice"] == "all" and it["value"] is not None]
assert cells
for cell in cells:
    told = client.get_metric_history(run.info.run_id, cell["metric"])
    assert len(told) == 1 and math.isclose(told[0].value, cell["value"], rel_tol=1e-12), cell["metric"]

inputs = run.inputs.dataset_inputs
assert len(inputs) == 1 and ours["inputs"]["snapshot"].removeprefix("sha256:").startswith(inputs[0].dataset.digest)

version = client.get_model_version_by_alias("flights", "champion")
assert version.run_id == run.info.run_id and version.tags["karat.version"] == "flights@1"
assert version.tags["verdict_digest"] == report["verdict_digest"]
assert version.tags["promoted_from"] == "none" and version.tags["promoted_at"]
assert len(client.search_model_versions("name = 'flights'")) == 1
files = {it.path for it in client.list_artifacts(run.info.run_id, "model")}
assert {"model/model.safetensors", "model/model.json"} <= files, files
got = client.download_artifacts(run.info.run_id, "model/model.safetensors", str(folder))
assert pathlib.Path(got).read_bytes() == (folder / "out" / "model.safetensors").read_bytes()
assert "reports/report.html" in {it.path for it in client.list_artifacts(run.info.run_id, "reports")}

lineage = ours["code"]["dvc"]
assert lineage["params"] == {"seed": "7", "prepare.rows": "2"}, lineage
assert {(it["path"], it["is_output"]) for it in lineage["files"]} == {("data/2013-01.parquet", False), ("head.txt", True)}
print(f"mlflow reads {len(losses)} losses, {len(run.data.params)} parameters, {len(files)} files of the model, version {version.version}")

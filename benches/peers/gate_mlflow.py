#!/usr/bin/env python3
"""Peer of `karat gate` with cached predictions: MLflow evaluates two models' predictions and validates one against the other.

    gate_mlflow.py --candidate PREDICTIONS.parquet --baseline PREDICTIONS.parquet

The files name their label column themselves. The whole process counts, as for karat: start, imports, reading, evaluation of both
on AUC, log loss and accuracy, validation, and the runs in an SQLite store. MLflow has no intervals, slices or report; it does
less. Prints one JSON line.
"""

import argparse
import os
import tempfile
import time

import tune

tune.restart_tuned(is_wait_active=False)

import mlflow  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from mlflow.models import MetricThreshold, make_metric  # noqa: E402
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score  # noqa: E402

METRICS = {
    "auc": (roc_auc_score, True),
    # MLflow tries a metric on the first row alone, so both classes are named.
    "logloss": (lambda y, p: log_loss(y, p, labels=[0, 1]), False),
    "hits": (lambda y, p: accuracy_score(y, p >= 0.5), True),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidate", required=True)
    parser.add_argument("--baseline", required=True)
    args = parser.parse_args()
    tune.pin()

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment("gate")
        results = [evaluate(path) for path in (args.candidate, args.baseline)]
        thresholds = {
            name: MetricThreshold(min_absolute_change=1e-9, greater_is_better=is_greater_better)
            for name, (_, is_greater_better) in METRICS.items()
        }
        try:
            mlflow.validate_evaluation_results(thresholds, *results)
            verdict = "pass"
        except mlflow.exceptions.MlflowException as error:
            verdict = str(error).splitlines()[0]
    tune.print_result(
        "gate_mlflow",
        {"since_start_s": round(time.time() - started(), 3), "cpu_s": round(sum(os.times()[:2]), 3), "verdict": verdict},
        {"mlflow": mlflow.__version__, "candidate": dict(results[0].metrics), "baseline": dict(results[1].metrics)},
    )


def evaluate(path: str):
    label = pq.read_schema(path).metadata[b"karat.label"].decode()
    rows = pq.read_table(path, columns=[label, "score"]).to_pandas().dropna()
    metrics = [
        make_metric(eval_fn=measured_by(measure), greater_is_better=is_greater_better, name=name)
        for name, (measure, is_greater_better) in METRICS.items()
    ]
    with mlflow.start_run():
        return mlflow.models.evaluate(data=rows, targets=label, predictions="score", extra_metrics=metrics)


def measured_by(measure):
    def eval_fn(predictions, targets):
        return float(measure(targets.astype(int), predictions))

    return eval_fn


def started() -> float:
    """When this process began, by the kernel: `restart_tuned` starts it once more under the same number."""
    with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
        ticks = int(stat.read().rsplit(")", 1)[1].split()[19])
        return time.time() - (float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK"))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Peer of the gate's bootstrap: paired resamples of AUC, log loss and accuracy of two models, vectorised NumPy.

    bootstrap_numpy.py [--rows 100000] [--resamples 10000] [--slices 20] [--threads 2]

All rows, and each of the slices that they fall into, are resampled. A resample is one vector of counts, used for both models. Scores are sorted once: AUC is a running sum of the counts in
score order, ties counted half; log loss and accuracy are products of the counts with columns made once. Rows are made
up (seeded): 24 % positive, two correlated models, scores rounded to 1e-4 so that ties occur. Prints one JSON line.
"""

import argparse
import math
import time
from concurrent.futures import ThreadPoolExecutor

import tune

tune.restart_tuned(is_wait_active=False)

import numpy as np  # noqa: E402

METRICS = ("auc", "log_loss", "accuracy")
BLOCK = 16  # resamples whose log loss and accuracy are one matrix product


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--threads", type=int, default=tune.N_THREADS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tune.pin(args.threads)

    labels, scores = make_rows(args.rows, args.seed)
    of_row = np.random.default_rng(args.seed + 1).integers(0, args.slices, args.rows) if args.slices else None
    slices = [np.arange(args.rows)] + [np.flatnonzero(of_row == at) for at in range(args.slices)]
    n_blocks = math.ceil(args.resamples / BLOCK)
    started, cpu_started = time.perf_counter(), time.process_time()
    found = []
    with ThreadPoolExecutor(args.threads) as pool:
        for rows in slices:
            prepared = Prepared(labels[rows], scores[:, rows])
            point = prepared.metrics(np.ones((1, len(rows))))[0]
            seeds = np.random.SeedSequence((args.seed, len(found))).spawn(n_blocks)
            blocks = list(pool.map(prepared.resample_block, seeds))
            resampled = np.concatenate(blocks)[: args.resamples]  # [resamples, models, metrics]
            found.append((point, np.quantile(resampled[:, 1] - resampled[:, 0], [0.05, 0.95], axis=0)))
    wall_s = time.perf_counter() - started
    cpu_s = time.process_time() - cpu_started
    point, (low, high) = found[0]

    tune.print_result(
        "bootstrap_numpy",
        {
            "wall_s": round(wall_s, 3),
            "resamples_per_s": round(args.resamples / wall_s),
            "cpu_s": round(cpu_s, 3),
            "cores_used": round(cpu_s / wall_s, 2),
            "baseline": dict(zip(METRICS, point[0].round(6).tolist())),
            "candidate": dict(zip(METRICS, point[1].round(6).tolist())),
            "change_90": {
                name: [round(float(low[idx]), 6), round(float(high[idx]), 6)] for idx, name in enumerate(METRICS)
            },
        },
        {
            "n_rows": args.rows,
            "n_resamples": args.resamples,
            "n_resamples_made": n_blocks * BLOCK,
            "n_slices": len(slices),
            "threads": args.threads,
            "block": BLOCK,
            "seed": args.seed,
            "generator": "SFC64",
            "numpy": np.__version__,
        },
    )


def make_rows(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(n_rows) < 0.24
    shared = rng.standard_normal(n_rows) + 0.8 * labels
    logits = np.stack([shared + 0.3 * rng.standard_normal(n_rows), shared + 0.25 * rng.standard_normal(n_rows)])
    scores = 1 / (1 + np.exp(1.5 - 0.8 * logits))
    return labels, np.clip(scores.round(4), 1e-4, 1 - 1e-4)


class Prepared:
    """All that does not change from resample to resample."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray):
        self.n_rows = len(labels)
        # Rows are put in this order once: positives first. A resample does not care about the order.
        order = np.argsort(~labels, kind="stable")
        labels, scores = labels[order], scores[:, order]
        self.n_positive = int(labels.sum())
        p = self.n_positive
        self.negative_order, self.below, self.not_above = [], [], []
        columns = []
        for model in scores:
            negative_order = np.argsort(model[p:], kind="stable")
            negatives = model[p:][negative_order]
            self.negative_order.append(negative_order)
            self.below.append(np.searchsorted(negatives, model[:p], side="left"))
            self.not_above.append(np.searchsorted(negatives, model[:p], side="right"))
            columns.append(-np.where(labels, np.log(model), np.log1p(-model)))
            columns.append((model >= 0.5) == labels)
        self.columns = np.stack(columns, axis=1).astype(np.float64)

    def resample_block(self, seed: np.random.SeedSequence) -> np.ndarray:
        rng = np.random.Generator(np.random.SFC64(seed))
        counts = np.empty((BLOCK, self.n_rows))
        for row in counts:
            row[:] = np.bincount(rng.integers(0, self.n_rows, self.n_rows), minlength=self.n_rows)
        return self.metrics(counts)

    def metrics(self, counts: np.ndarray) -> np.ndarray:
        """Counts [resamples, rows] to values [resamples, 2 models, 3 metrics]."""
        out = np.empty((len(counts), 2, len(METRICS)))
        out[:, :, 1:] = (counts @ self.columns / self.n_rows).reshape(-1, 2, 2)
        p = self.n_positive
        running = np.zeros(self.n_rows - p + 1)
        for row, values in zip(counts, out):
            positive, negative = row[:p], row[p:]
            n_pairs = positive.sum() * negative.sum()
            for model in range(2):
                np.cumsum(negative[self.negative_order[model]], out=running[1:])
                beaten = running[self.below[model]] + running[self.not_above[model]]
                values[model, 0] = 0.5 * (positive @ beaten) / n_pairs
        return out


if __name__ == "__main__":
    main()

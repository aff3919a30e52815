"""Flights as numbers: which columns, how they are encoded, how AUC is counted. Needs NumPy and pyarrow only.

Only what is known before departure goes in. `month` and the day of the year stay out: the training rows are
January to June, so a model could only extrapolate them.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CATEGORICAL = ("carrier", "origin", "dest", "dow", "hour")
STRINGS = ("carrier", "origin", "dest")
NUMERIC = ("sched_dep_min", "sched_arr_min", "distance", "flight")
SOURCES = (
    "year", "month", "day", "hour", "sched_dep_time", "sched_arr_time", "carrier", "flight", "origin", "dest", "distance",
)  # fmt: skip
KEYS = ("time_hour", "carrier", "flight", "origin")
EMBEDDING_MAX = 16
HIDDEN = 256


@dataclass
class Plan:
    """Vocabularies (code 0 is for values not in them) and scales, fitted on the training rows."""

    vocabularies: dict[str, list]
    means: list[float]
    deviations: list[float]

    def table_shapes(self) -> list[tuple[int, int]]:
        sizes = [len(self.vocabularies[name]) for name in CATEGORICAL]
        return [(n + 1, min(50, (n + 1) // 2, EMBEDDING_MAX)) for n in sizes]

    def to_dict(self) -> dict:
        return asdict(self)


def month_files(folder: Path) -> dict[int, Path]:
    files = {int(path.stem[-2:]): path for path in sorted(folder.glob("2013-*.parquet"))}
    if sorted(files) != list(range(1, 13)):
        raise SystemExit(f"error: `{folder}` holds months {sorted(files)}, expected 2013-01.parquet to 2013-12.parquet")
    return files


def read_labelled(path: Path) -> tuple[pa.RecordBatch, np.ndarray]:
    """The rows of one month that have a label, and the labels."""
    table = pq.read_table(path, columns=[*SOURCES, "late"], read_dictionary=list(STRINGS))
    table = table.filter(table["late"].is_valid()).unify_dictionaries().combine_chunks()
    (batch,) = table.to_batches()
    return batch, batch["late"].to_numpy(zero_copy_only=False).astype(np.float32)


def fit(batches: list[pa.RecordBatch]) -> Plan:
    vocabularies = {}
    for name in STRINGS:
        vocabularies[name] = sorted(set().union(*(batch[name].dictionary.to_pylist() for batch in batches)))
    vocabularies["dow"] = list(range(7))
    vocabularies["hour"] = np.unique(np.concatenate([batch["hour"].to_numpy() for batch in batches])).tolist()
    numeric = np.concatenate([numeric_columns(batch) for batch in batches])
    return Plan(vocabularies, numeric.mean(axis=0).tolist(), numeric.std(axis=0).tolist())


def numeric_columns(batch: pa.RecordBatch) -> np.ndarray:
    out = np.empty((batch.num_rows, len(NUMERIC)), np.float32)
    for position, name in enumerate(("sched_dep_time", "sched_arr_time")):
        hhmm = batch[name].to_numpy()
        hours = hhmm // 100
        out[:, position] = hhmm - 40 * hours
    out[:, 2] = batch["distance"].to_numpy()
    out[:, 3] = batch["flight"].to_numpy()
    return out


def day_of_week(batch: pa.RecordBatch) -> np.ndarray:
    """Monday is 0."""
    month_index = (batch["year"].to_numpy().astype(np.int64) - 1970) * 12 + batch["month"].to_numpy() - 1
    first = month_index.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return (first + batch["day"].to_numpy() - 1 + 3) % 7


class Encoder:
    """Turns a batch of source columns into codes and standardised numerics, by a Plan."""

    def __init__(self, plan: Plan):
        self.code_of = {
            name: {value: code for code, value in enumerate(plan.vocabularies[name], 1)} for name in STRINGS
        }
        self.hour_codes = np.zeros(24, np.int32)
        for code, hour in enumerate(plan.vocabularies["hour"], 1):
            self.hour_codes[hour] = code
        self.means = np.array(plan.means, np.float32)
        self.scales = (1 / np.array(plan.deviations)).astype(np.float32)

    def encode(self, batch: pa.RecordBatch) -> tuple[list[np.ndarray], np.ndarray]:
        """One int32 vector for each of CATEGORICAL, and the numerics as f32 [rows, 4]."""
        codes = []
        for name in STRINGS:
            column, code_of = batch[name], self.code_of[name]
            lookup = np.array([code_of.get(value, 0) for value in column.dictionary.to_pylist()], np.int32)
            codes.append(lookup[column.indices.to_numpy()])
        codes.append((day_of_week(batch) + 1).astype(np.int32))
        codes.append(self.hour_codes[batch["hour"].to_numpy()])
        numeric = numeric_columns(batch)
        numeric -= self.means
        numeric *= self.scales
        return codes, numeric


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half."""
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(sizes) - (sizes - 1) / 2
    is_late = labels > 0.5
    n_late, n_other = int(is_late.sum()), int((~is_late).sum())
    return float((rank[group[is_late]].sum() - n_late * (n_late + 1) / 2) / (n_late * n_other))

"""Reads what `karat run --out` wrote with the readers other people use: safetensors, NumPy, pyarrow.

    python ci/interop.py OUT/model.safetensors OUT/predictions.parquet
"""

import json
import struct
import sys

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors.numpy import load_file


def expect(is_true: bool, fact: str) -> None:
    if not is_true:
        sys.exit(f"interop: {fact}")


def read_model(path: str) -> None:
    tensors = load_file(path)
    expect(0 < len(tensors), f"{path} holds no tensors")
    n_numbers = 0
    for name, tensor in tensors.items():
        expect(tensor.dtype == np.float32, f"{name} is {tensor.dtype}, expected float32")
        expect(bool(np.isfinite(tensor).all()), f"{name} holds a number that is not finite")
        n_numbers += tensor.size
    expect(any(bool(tensor.any()) for tensor in tensors.values()), "every weight is zero")
    with open(path, "rb") as file:
        (n_bytes,) = struct.unpack("<Q", file.read(8))
        names = [name for name in json.loads(file.read(n_bytes)) if name != "__metadata__"]
    expect(names == sorted(names), "the header's names are not sorted: files would not be byte-stable")
    print(f"safetensors: {len(tensors)} tensors, {n_numbers:,} finite numbers, names sorted")


def read_predictions(path: str) -> None:
    file = pq.ParquetFile(path)
    keys = {key.decode() for key in (file.schema_arrow.metadata or {})}
    for wanted in ("model", "snapshot"):
        expect(any(wanted in key for key in keys), f"the metadata names no {wanted}: {sorted(keys)}")
    table = file.read()
    expect(0 < table.num_rows, f"{path} holds no rows")
    scores = [name for name in table.column_names if name.startswith(("score", "probability", "prediction"))]
    expect(0 < len(scores), f"no score column among {table.column_names}")
    for name in scores:
        column = table[name]
        expect(column.null_count == 0, f"{name} holds {column.null_count} nulls")
        if str(column.type) in ("float", "double"):
            expect(pc.all(pc.is_finite(column)).as_py(), f"{name} holds a number that is not finite")
            expect(1 < pc.count_distinct(column).as_py(), f"{name} is the same in every row")
    print(f"parquet: {table.num_rows:,} rows, {table.num_columns} columns, scores in {', '.join(scores)}")


if __name__ == "__main__":
    expect(len(sys.argv) == 3, "usage: interop.py MODEL.safetensors PREDICTIONS.parquet")
    read_model(sys.argv[1])
    read_predictions(sys.argv[2])

"""Reads what `karat run --out` wrote with the readers other people use: safetensors, NumPy, pyarrow, the JUnit schema of
Jenkins's xUnit plugin, Prometheus's OpenMetrics parser, and GitLab's list of fields. Files with hostile names, which no run
writes, are those pinned by the tests of `crates/report`.

    python ci/interop.py OUT junit-10.xsd
"""

import json
import pathlib
import struct
import sys

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from lxml import etree
from prometheus_client.openmetrics import parser as openmetrics
from safetensors.numpy import load_file

PINNED = pathlib.Path(__file__).parent.parent / "crates/report/tests/golden"


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


def read_junit(path: pathlib.Path, schema: etree.XMLSchema) -> None:
    suites = etree.parse(path)
    expect(schema.validate(suites), f"{path}: {schema.error_log.last_error}")
    cases = suites.findall(".//testcase")
    for count, tag in (("tests", None), ("failures", "failure"), ("errors", "error")):
        told = int(suites.getroot().get(count))
        found = sum(tag is None or case.find(tag) is not None for case in cases)
        expect(told == found, f"{path} says {told} {count} and holds {found}")
    print(f"junit: {path.name}, {len(cases)} cases")


def read_metrics_text(path: pathlib.Path) -> None:
    families = list(openmetrics.text_string_to_metric_families(path.read_text()))
    n_samples = sum(len(family.samples) for family in families)
    expect(0 < n_samples, f"{path} holds no sample")
    print(f"openmetrics: {path.name}, {len(families)} families, {n_samples} samples")


def read_metrics(path: pathlib.Path) -> None:
    """As DVC does: objects all the way down, numbers at the end."""

    def leaves(value: object, at: str) -> int:
        if isinstance(value, dict):
            return sum(leaves(inner, f"{at}.{key}") for key, inner in value.items())
        expect(type(value) in (int, float), f"{at} is {value!r}, not a number")
        return 1

    n_numbers = leaves(json.loads(path.read_text()), path.name)
    expect(0 < n_numbers, f"{path} holds no number")
    print(f"metrics: {path.name}, {n_numbers} numbers")


def read_code_quality(path: pathlib.Path) -> None:
    """The fields that docs.gitlab.com/ci/testing/code_quality asks of each finding."""
    issues = json.loads(path.read_text())
    expect(0 < len(issues), f"{path} holds no finding")
    for issue in issues:
        for key in ("description", "check_name", "fingerprint"):
            expect(isinstance(issue[key], str) and issue[key] != "", f"{path}: {key} is {issue[key]!r}")
        expect(issue["severity"] in ("info", "minor", "major", "critical", "blocker"), f"{path}: {issue['severity']}")
        place = issue["location"]
        expect(not place["path"].startswith(("/", "./")), f"{path}: {place['path']} is not relative")
        expect(type(place["lines"]["begin"]) is int and 0 < place["lines"]["begin"], f"{path}: {place['lines']}")
    print(f"code quality: {path.name}, {len(issues)} findings")


if __name__ == "__main__":
    expect(len(sys.argv) == 3, "usage: interop.py OUT junit-10.xsd")
    out = pathlib.Path(sys.argv[1])
    read_model(str(out / "model.safetensors"))
    read_predictions(str(out / "predictions.parquet"))
    junit = etree.XMLSchema(etree.parse(sys.argv[2]))
    for found in (out / "junit.xml", PINNED / "junit.xml", PINNED / "hostile-junit.xml"):
        read_junit(found, junit)
    for found in (out / "metrics.txt", PINNED / "metrics.txt", PINNED / "hostile-metrics.txt"):
        read_metrics_text(found)
    read_metrics(out / "metrics.json")
    for found in (PINNED / "code-quality.json", PINNED / "hostile-code-quality.json"):
        read_code_quality(found)

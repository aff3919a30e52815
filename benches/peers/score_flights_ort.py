#!/usr/bin/env python3
"""Peer of `karat score` on flights: Parquet -> pyarrow -> NumPy -> ONNX Runtime -> Parquet, streaming.

    score_flights_ort.py --data DIR --model MODEL.onnx --out OUT.parquet [--rows 3367760] [--batch 8192]

DIR holds the files of make_big.py, the model is one of export_flights_onnx.py. One thread reads and encodes, two run the
model, one writes; the queue between them is bounded. Prints one JSON line: rows/s of the whole job (first file
opened to output synced; imports and session start are reported apart) and peak memory.
"""

import argparse
import json
import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tune

tune.restart_tuned(is_wait_active=False)

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import flights_rows as rows  # noqa: E402

QUEUE_MAX = 8
ROW_GROUP = 131_072
COLUMNS = list(dict.fromkeys([*rows.SOURCES, *rows.KEYS]))
DONE = object()


class Failed(Exception):
    """Another thread failed; its own exception is the one to show."""


class Pipe:
    """A bounded queue that stops waiting when any thread has failed."""

    def __init__(self, failed: threading.Event):
        self.queue: queue.Queue = queue.Queue(QUEUE_MAX)
        self.failed = failed

    def put(self, item: object) -> None:
        while True:
            try:
                return self.queue.put(item, timeout=0.2)
            except queue.Full:
                self.stop_if_failed()

    def __iter__(self):
        while True:
            try:
                item = self.queue.get(timeout=0.2)
            except queue.Empty:
                self.stop_if_failed()
                continue
            if item is DONE:
                return
            yield item

    def stop_if_failed(self) -> None:
        if self.failed.is_set():
            raise Failed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=3_367_760, help="stop unless the input holds this many")
    parser.add_argument("--batch", type=int, default=8192)
    # Two batches at once on one thread each beat one batch on two threads (--lanes 1 --intra 2): no waiting inside.
    parser.add_argument("--lanes", type=int, default=tune.N_THREADS, help="batches in the model at once")
    parser.add_argument("--intra", type=int, default=1, help="threads of one batch in the model")
    parser.add_argument("--spin", action=argparse.BooleanOptionalAction, default=False, help="idle threads spin")
    parser.add_argument("--compression", default="zstd", help="zstd (level 1), snappy or none")
    args = parser.parse_args()
    tune.pin()
    pa.set_cpu_count(1)

    started = time.perf_counter()
    session = open_session(args.model, args.intra, args.spin)
    plan = rows.Plan(**json.loads(session.get_modelmeta().custom_metadata_map["plan"]))
    encoder = rows.Encoder(plan)
    session_s = time.perf_counter() - started

    files = sorted(args.data.glob("*.parquet"))
    n_rows = sum(pq.read_metadata(path).num_rows for path in files)
    if n_rows != args.rows:
        raise SystemExit(f"error: `{args.data}` holds {n_rows:,} rows, expected {args.rows:,}")

    started, cpu_started = time.perf_counter(), time.process_time()
    busy_s = score(files, session, encoder, args)
    wall_s = time.perf_counter() - started
    cores_used = (time.process_time() - cpu_started) / wall_s

    written = pq.ParquetFile(args.out)
    if written.metadata.num_rows != n_rows:
        raise SystemExit(f"error: {written.metadata.num_rows:,} rows written, expected {n_rows:,}")
    tune.print_result(
        "score_flights_ort",
        {
            "rows_per_s": round(n_rows / wall_s),
            "wall_s": round(wall_s, 3),
            "session_s": round(session_s, 3),
            "busy_s": {name: round(seconds, 2) for name, seconds in busy_s.items()},
            "cores_used": round(cores_used, 2),
            "n_rows": n_rows,
            "n_files": len(files),
            "n_bytes_out": args.out.stat().st_size,
            "score_mean": mean_score(written),
        },
        {
            "batch": args.batch,
            "intra_op_threads": args.intra,
            "lanes": args.lanes,
            "spin": args.spin,
            "compression": args.compression,
            "row_group": ROW_GROUP,
            "onnxruntime": ort.__version__,
            "pyarrow": pa.__version__,
            "numpy": np.__version__,
        },
    )


def open_session(model: Path, n_threads: int, is_spinning: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if is_spinning else "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def score(files: list[Path], session: ort.InferenceSession, encoder: rows.Encoder, args) -> dict[str, float]:
    """Returns the seconds spent in each part, summed over its threads, waiting for a queue not counted."""
    failed = threading.Event()
    encoded, scored = Pipe(failed), Pipe(failed)
    busy_s = {"read_encode": 0.0, "model": 0.0, "write": 0.0}
    errors: list[Exception] = []

    def read_and_encode() -> None:
        mark = time.perf_counter()
        for path in files:
            source = pq.ParquetFile(path, read_dictionary=list(rows.STRINGS), memory_map=True)
            for batch in source.iter_batches(args.batch, columns=COLUMNS, use_threads=False):
                codes, numeric = encoder.encode(batch)
                keys = [batch[name] for name in rows.KEYS]
                busy_s["read_encode"] += time.perf_counter() - mark
                encoded.put((keys, dict(zip(rows.CATEGORICAL, codes), numeric=numeric)))
                mark = time.perf_counter()
        encoded.put(DONE)

    def run_model() -> None:
        def run(inputs: dict) -> np.ndarray:
            mark = time.perf_counter()
            (scores,) = session.run(["score"], inputs)
            run_s.append(time.perf_counter() - mark)
            return scores

        run_s: list[float] = []
        with ThreadPoolExecutor(args.lanes) as pool:  # futures go on in the order of the rows
            for keys, inputs in encoded:
                scored.put((keys, pool.submit(run, inputs)))
        busy_s["model"] = sum(run_s)
        scored.put(DONE)

    def write() -> None:
        schema = pa.schema(
            [
                ("time_hour", pa.timestamp("ms", "UTC")),
                ("carrier", pa.dictionary(pa.int32(), pa.string())),
                ("flight", pa.int32()),
                ("origin", pa.dictionary(pa.int32(), pa.string())),
                ("score", pa.float32()),
            ]
        )
        writing = {"compression": args.compression, "use_dictionary": list(rows.KEYS), "store_schema": False}
        if args.compression == "zstd":
            writing["compression_level"] = 1
        with args.out.open("wb") as sink:
            with pq.ParquetWriter(sink, schema, **writing) as writer:
                waiting, n_waiting = [], 0
                for keys, future in scored:
                    scores = future.result()
                    mark = time.perf_counter()
                    waiting.append(pa.RecordBatch.from_arrays([*keys, pa.array(scores)], schema=schema))
                    n_waiting += len(scores)
                    if ROW_GROUP <= n_waiting:
                        write_group(writer, waiting)
                        waiting, n_waiting = [], 0
                    busy_s["write"] += time.perf_counter() - mark
                if waiting:
                    write_group(writer, waiting)
            sink.flush()
            os.fsync(sink.fileno())

    def guarded(work) -> None:
        try:
            work()
        except Failed:
            pass
        except Exception as error:
            errors.append(error)
            failed.set()

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (read_and_encode, run_model, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return busy_s


def write_group(writer: pq.ParquetWriter, batches: list[pa.RecordBatch]) -> None:
    table = pa.Table.from_batches(batches).unify_dictionaries()
    writer.write_table(table, row_group_size=table.num_rows)


def mean_score(written: pq.ParquetFile) -> float:
    sums = [float(batch["score"].to_numpy().sum(dtype=np.float64)) for batch in written.iter_batches(columns=["score"])]
    return round(sum(sums) / written.metadata.num_rows, 6)


if __name__ == "__main__":
    main()

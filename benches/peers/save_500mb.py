#!/usr/bin/env python3
"""Peer of a checkpoint commit: 500 MB of tensors saved durably with safetensors, and the disk's own speed.

    save_500mb.py --dir DIR [--repeat 5]

Both ways write a new file, sync it, rename it into place and sync the folder. `plain` writes one buffer of the same
size and says where the disk's limit lies. DIR must be on the disk that is meant: not a tmpfs. Prints one JSON line with
medians.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import tune

tune.restart_tuned(is_wait_active=False)

import numpy as np  # noqa: E402
import safetensors  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

N_TENSORS = 125
TENSOR_SHAPE = (1000, 1000)  # f32: 4 MB each, 500 MB in all
CHUNK = 8 << 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    tensors = {f"layer.{idx:03}.weight": rng.standard_normal(TENSOR_SHAPE, np.float32) for idx in range(N_TENSORS)}
    buffer = memoryview(np.concatenate([tensor.reshape(-1) for tensor in tensors.values()])).cast("B")
    n_bytes = len(buffer)

    safetensors_s, plain_s = [], []
    for _ in range(args.repeat):  # turn by turn, so that a slow spell of the disk hits both
        safetensors_s.append(timed(args.dir, lambda path: save_file(tensors, path)))
        plain_s.append(timed(args.dir, lambda path: write_plain(path, buffer)))

    def gb_per_s(seconds: list[float]) -> float:
        return round(n_bytes / statistics.median(seconds) / 1e9, 3)

    tune.print_result(
        "save_500mb",
        {
            "safetensors_gb_per_s": gb_per_s(safetensors_s),
            "plain_gb_per_s": gb_per_s(plain_s),
            "safetensors_s": [round(seconds, 3) for seconds in safetensors_s],
            "plain_s": [round(seconds, 3) for seconds in plain_s],
        },
        {
            "n_bytes": n_bytes,
            "n_tensors": N_TENSORS,
            "repeat": args.repeat,
            "file_system": file_system(args.dir),
            "safetensors": safetensors.__version__,
        },
    )


def timed(folder: Path, write) -> float:
    """Seconds until the file is durable under its final name. The file is removed afterwards."""
    partial, final = folder / "save_500mb.partial", folder / "save_500mb.bin"
    os.sync()
    started = time.perf_counter()
    write(partial)
    sync(partial)
    os.replace(partial, final)
    sync(folder)
    seconds = time.perf_counter() - started
    final.unlink()
    return seconds


def write_plain(path: Path, buffer: memoryview) -> None:
    with open(path, "wb", buffering=0) as file:
        start = 0
        while start < len(buffer):
            start += file.write(buffer[start : start + CHUNK])


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_system(folder: Path) -> str:
    """Type of the mount that holds `folder`."""
    folder = folder.resolve()
    best, kind = Path("/"), "unknown"
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, where, mount_kind, *_ = line.split()
            where = Path(where)
            if folder.is_relative_to(where) and len(best.parts) <= len(where.parts):
                best, kind = where, mount_kind
    return kind


if __name__ == "__main__":
    main()

"""What every peer shares: the process settings it is tuned with, and the one JSON line it prints."""

import ctypes
import json
import os
import platform
import resource
import sys

N_THREADS = 2

# glibc keeps large blocks instead of returning them to the kernel: fresh activations then cost no page faults.
KEEP_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}


def restart_tuned(is_wait_active: bool) -> None:
    """Starts this script again with the settings that only count at process start, unless they are there already.

    A setting that the caller made stays. `is_wait_active`: threads of OpenMP spin between two parallel regions;
    good for many small ones in a row, bad where other threads have work to do.
    """
    wanted = {
        **KEEP_BLOCKS,
        "OMP_NUM_THREADS": str(N_THREADS),
        "OPENBLAS_NUM_THREADS": str(N_THREADS),
        "OMP_WAIT_POLICY": "active" if is_wait_active else "passive",
        "CUDA_VISIBLE_DEVICES": "",
    }
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    if missing:
        os.environ.update(missing)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def pin(n_cores: int = N_THREADS) -> list[int]:
    """Keeps the process on its first `n_cores` cores."""
    cores = sorted(os.sched_getaffinity(0))[:n_cores]
    os.sched_setaffinity(0, cores)
    return cores


def peak_rss_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


def print_result(peer: str, result: dict, settings: dict) -> None:
    names = (*KEEP_BLOCKS, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
    settings = {
        **settings,
        "env": {name: os.environ[name] for name in names if name in os.environ},
        "cores": sorted(os.sched_getaffinity(0)),
        "cpu": cpu_name(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "glibc": glibc_version(),
    }
    print(json.dumps({"peer": peer, **result, "peak_rss_mb": peak_rss_mb(), "settings": settings}))


def glibc_version() -> str:
    version = ctypes.CDLL(None).gnu_get_libc_version
    version.restype = ctypes.c_char_p
    return version().decode()


def cpu_name() -> str:
    """Model name and the vector extensions that decide GEMM speed."""
    with open("/proc/cpuinfo") as file:
        fields = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    vector = [name for name in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni") if name in flags]
    return " ".join([fields.get("model name", "unknown"), *vector])

#!/usr/bin/env python3
"""Peer of `karat train` on flights: PyTorch, months 1 to 6, whole tensors in memory, permuted index batches.

    train_flights_torch.py --data DIR [--batch 1024] [--epochs 5] [--save WEIGHTS.npz]

Embeddings and standardised numerics -> 256 -> 256 -> 1, fused AdamW, warm-up and cosine, BCE with logits.
Prints one JSON line: rows/s of the training loop (median of the epochs after the first), AUC by later month.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import tune

tune.restart_tuned(is_wait_active=True)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import flights_rows as rows  # noqa: E402


class Mlp(nn.Module):
    def __init__(self, table_shapes: list[tuple[int, int]], n_numeric: int, hidden: int):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, width) for n, width in table_shapes)
        n_inputs = sum(width for _, width in table_shapes) + n_numeric
        self.first = nn.Linear(n_inputs, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1)

    def forward(self, codes: torch.Tensor, numeric: torch.Tensor) -> torch.Tensor:
        parts = [table(column) for table, column in zip(self.tables, codes.unbind(1))]
        hidden = F.relu(self.first(torch.cat([*parts, numeric], 1)))
        hidden = F.relu(self.second(hidden))
        return self.last(hidden).squeeze(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    parser.add_argument("--bf16", action="store_true", help="autocast; gains only where the CPU has AVX-512 BF16")
    parser.add_argument("--save", type=Path, help="weights and plan, for export_flights_onnx.py")
    args = parser.parse_args()
    tune.pin()
    torch.set_num_threads(tune.N_THREADS)
    torch.manual_seed(args.seed)

    started = time.perf_counter()
    files = rows.month_files(args.data)
    batches, labels = zip(*(rows.read_labelled(files[month]) for month in range(1, 7)))
    plan = rows.fit(list(batches))
    encoder = rows.Encoder(plan)
    codes, numeric = zip(*(to_tensors(encoder, batch) for batch in batches))
    codes, numeric = torch.cat(codes), torch.cat(numeric)
    labels = torch.from_numpy(np.concatenate(labels))
    load_s = time.perf_counter() - started

    model = Mlp(plan.table_shapes(), len(rows.NUMERIC), rows.HIDDEN)
    forward = torch.compile(model) if args.compile else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay, fused=True
    )
    n_rows = len(labels)
    n_updates = args.epochs * math.ceil(n_rows / args.batch)
    n_warm_up = n_updates // 20
    epochs_s, losses, update = [], [], 0
    loop_started, loop_cpu_started = time.perf_counter(), time.process_time()
    for _ in range(args.epochs):
        started = time.perf_counter()
        order = torch.randperm(n_rows)
        loss_sum = torch.zeros(())
        for picked in order.split(args.batch):
            optimizer.param_groups[0]["lr"] = args.learning_rate * lr_factor(update, n_warm_up, n_updates)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                logits = forward(codes.index_select(0, picked), numeric.index_select(0, picked))
            loss = F.binary_cross_entropy_with_logits(logits.float(), labels.index_select(0, picked))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(picked)
            update += 1
        losses.append(round(loss_sum.item() / n_rows, 5))
        epochs_s.append(time.perf_counter() - started)
    # Clearly below 2.0: something else was running, and the figures are too low.
    cores_used = (time.process_time() - loop_cpu_started) / (time.perf_counter() - loop_started)
    after_first = epochs_s[1:] or epochs_s

    auc_by_month, all_labels, all_scores = {}, [], []
    for month in range(7, 13):
        batch, month_labels = rows.read_labelled(files[month])
        with torch.inference_mode():
            scores = torch.cat([model(*part) for part in split(to_tensors(encoder, batch), 8192)]).sigmoid().numpy()
        auc_by_month[month] = round(rows.auc(month_labels, scores), 4)
        all_labels.append(month_labels)
        all_scores.append(scores)
    auc_all = rows.auc(np.concatenate(all_labels), np.concatenate(all_scores))

    if args.save:
        weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
        np.savez(args.save, plan=json.dumps(plan.to_dict()), **weights)
    tune.print_result(
        "train_flights_torch",
        {
            "rows_per_s": round(n_rows / statistics.median(after_first)),
            "rows_per_s_by_epoch": [round(n_rows / seconds) for seconds in epochs_s],
            "n_rows": n_rows,
            "n_updates": n_updates,
            "cores_used": round(cores_used, 2),
            "loss_by_epoch": losses,
            "auc_by_month": auc_by_month,
            "auc_july_to_december": round(auc_all, 4),
            "load_s": round(load_s, 2),
        },
        {
            "batch": args.batch,
            "epochs": args.epochs,
            "learning_rate": args.learning_rate,
            "weight_decay": args.weight_decay,
            "n_warm_up": n_warm_up,
            "seed": args.seed,
            "n_inputs": model.first.in_features,
            "compile": args.compile,
            "bf16": args.bf16,
            "torch": torch.__version__,
            "torch_cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
    )


def to_tensors(encoder: rows.Encoder, batch) -> tuple[torch.Tensor, torch.Tensor]:
    codes, numeric = encoder.encode(batch)
    return torch.from_numpy(np.stack(codes, axis=1).astype(np.int64)), torch.from_numpy(numeric)


def split(tensors: tuple[torch.Tensor, torch.Tensor], n_rows: int):
    return zip(*(tensor.split(n_rows) for tensor in tensors))


def lr_factor(update: int, n_warm_up: int, n_updates: int) -> float:
    if update < n_warm_up:
        return (update + 1) / n_warm_up
    return 0.5 * (1 + math.cos(math.pi * (update - n_warm_up) / (n_updates - n_warm_up)))


if __name__ == "__main__":
    main()

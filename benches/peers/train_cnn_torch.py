#!/usr/bin/env python3
"""Peer of training the `cnn` of karat: PyTorch, 28 x 28 x 1 pixels in memory, 3 x 3 filters 32 and 64, fc 128, 10 classes.

    train_cnn_torch.py [--batch 128] [--updates 200] [--layout first|last] [--compile]

Convolutions padded to keep the size, ReLU, 2 x 2 pools, AdamW with clipped global norm, cross-entropy: what karat does.
Pixels are drawn; speed does not depend on them. Prints one JSON line: images/s (median of rounds of 20 updates).
"""

import argparse
import statistics
import time

import tune

tune.restart_tuned(is_wait_active=True)

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

ROUND = 20


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.second = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(7 * 7 * 64, 128)
        self.output = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The largest number cut at zero is the largest of the cut ones: a quarter of the work for the ReLU.
        x = F.relu(F.max_pool2d(self.first(x), 2))
        x = F.relu(F.max_pool2d(self.second(x), 2))
        return self.output(F.relu(self.hidden(x.flatten(1))))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--layout", choices=("first", "last"), default="last")
    parser.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler")
    args = parser.parse_args()
    tune.pin()
    torch.set_num_threads(tune.N_THREADS)
    torch.manual_seed(0)

    layout = torch.channels_last if args.layout == "last" else torch.contiguous_format
    model = Cnn().to(memory_format=layout)
    forward = torch.compile(model) if args.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
    pixels = torch.rand(60_000, 1, 28, 28)
    labels = torch.randint(0, 10, (60_000,))

    def update() -> None:
        picked = torch.randint(0, len(pixels), (args.batch,))
        x = pixels[picked].to(memory_format=layout)
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(forward(x), labels[picked])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()  # karat looks at every loss too

    for _ in range(ROUND):
        update()
    rates = []
    for _ in range(max(1, args.updates // ROUND)):
        started = time.perf_counter()
        for _ in range(ROUND):
            update()
        rates.append(ROUND * args.batch / (time.perf_counter() - started))
    tune.print_result(
        "PyTorch eager" if not args.compile else "torch.compile",
        {"images_per_s": statistics.median(rates), "best": max(rates), "rounds": [round(it) for it in rates]},
        {"torch": torch.__version__, **vars(args)},
    )


if __name__ == "__main__":
    main()

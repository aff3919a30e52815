#!/usr/bin/env python3
"""Peer of karat's encoder: the same weights and tokens in PyTorch, inference mode, two threads.

    encoder_torch.py --file ENCODER.safetensors [--seconds 6] [--bf16]

The file holds the blocks' weights, `tokens` [batch, length, width], `heads`, and `answer`, what karat made of them. Runs two
forms and counts the faster: functional calls with `scaled_dot_product_attention`, and `nn.TransformerEncoder`, whose
blocks have one fused operator each in inference mode. Prints one JSON line: sequences/s (median over passes) and the largest
difference from karat's answer.
"""

import argparse
import statistics
import time
from pathlib import Path

import tune

tune.restart_tuned(is_wait_active=True)

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

EPS = 1e-5


class Functional:
    """Every call an expert would write by hand; weights already [out, in]."""

    def __init__(self, weights: dict[str, torch.Tensor], n_blocks: int, n_heads: int):
        self.n_heads = n_heads
        names = ("qkv", "out", "first", "second")
        self.blocks = []
        for i in range(n_blocks):
            at = f"blocks.{i}."
            block = {n: (weights[f"{at}{n}.weight"].T.contiguous(), weights[f"{at}{n}.bias"]) for n in names}
            for n in ("norm_attention", "norm_ff"):
                block[n] = (weights[f"{at}{n}.gamma"], weights[f"{at}{n}.beta"])
            self.blocks.append(block)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        n, length, width = x.shape
        for block in self.blocks:
            qkv = F.linear(x, *block["qkv"]).view(n, length, 3, self.n_heads, width // self.n_heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
            x = F.layer_norm(F.linear(found, *block["out"]) + x, (width,), *block["norm_attention"], EPS)
            hidden = F.gelu(F.linear(x, *block["first"]))
            x = F.layer_norm(F.linear(hidden, *block["second"]) + x, (width,), *block["norm_ff"], EPS)
        return x


def module(weights: dict[str, torch.Tensor], n_blocks: int, n_heads: int) -> nn.Module:
    width, hidden = weights["blocks.0.first.weight"].shape
    layer = nn.TransformerEncoderLayer(
        width, n_heads, hidden, dropout=0.0, activation="gelu", layer_norm_eps=EPS, batch_first=True
    )
    encoder = nn.TransformerEncoder(layer, n_blocks).eval()
    theirs = {"qkv": "self_attn.in_proj_", "out": "self_attn.out_proj.", "first": "linear1.", "second": "linear2."}
    state = {}
    for i in range(n_blocks):
        for ours, name in theirs.items():
            state[f"layers.{i}.{name}weight"] = weights[f"blocks.{i}.{ours}.weight"].T.contiguous()
            state[f"layers.{i}.{name}bias"] = weights[f"blocks.{i}.{ours}.bias"]
        for ours, name in {"norm_attention": "norm1", "norm_ff": "norm2"}.items():
            state[f"layers.{i}.{name}.weight"] = weights[f"blocks.{i}.{ours}.gamma"]
            state[f"layers.{i}.{name}.bias"] = weights[f"blocks.{i}.{ours}.beta"]
    encoder.load_state_dict(state)
    return encoder


def measure(model, x: torch.Tensor, seconds: float) -> list[float]:
    for _ in range(2):
        model(x)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        model(x)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    tune.pin()
    torch.set_num_threads(tune.N_THREADS)
    weights = load_file(args.file)
    x, answer = weights.pop("tokens"), weights.pop("answer")
    n_heads = int(weights.pop("heads"))
    n_blocks = 1 + max(int(name.split(".")[1]) for name in weights)
    if args.bf16:
        weights = {name: tensor.bfloat16() for name, tensor in weights.items()}
        x = x.bfloat16()
    forms = {"functional": Functional(weights, n_blocks, n_heads)}
    if not args.bf16:
        forms["nn.TransformerEncoder"] = module(weights, n_blocks, n_heads)
    times, errors = {}, {}
    with torch.inference_mode():
        for name, model in forms.items():
            errors[name] = (model(x).float() - answer).abs().max().item()
            times[name] = measure(model, x, args.seconds / len(forms))
    speed = {name: len(x) / statistics.median(found) for name, found in times.items()}
    best = max(speed, key=speed.get)
    tune.print_result(
        "encoder_torch",
        {
            "sequences_per_s": round(speed[best], 2),
            "form": best,
            "best_sequences_per_s": round(len(x) / min(times[best]), 2),
            "by_form": {name: round(found, 2) for name, found in speed.items()},
            "max_difference": errors,
            "n_passes": len(times[best]),
        },
        {
            "batch": list(x.shape),
            "bf16": args.bf16,
            "torch": torch.__version__,
            "torch_cpu": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        },
    )


if __name__ == "__main__":
    main()

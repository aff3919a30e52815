#!/usr/bin/env python3
"""Peer of karat's encoder: the same weights and tokens in ONNX Runtime, f32, two threads.

    encoder_ort.py --file ENCODER.safetensors [--seconds 6]

The graph is built of the runtime's own fused operators (Attention, SkipLayerNormalization, BiasGelu), which its transformer
optimizer would put there. Prints one JSON line, as encoder_torch.py.
"""

import argparse
import statistics
import time
from pathlib import Path

import tune

tune.restart_tuned(is_wait_active=True)

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

EPS = 1e-5
FUSED = "com.microsoft"


def build(weights: dict[str, np.ndarray], n_blocks: int, n_heads: int, width: int) -> bytes:
    nodes, constants = [], [numpy_helper.from_array(value, name) for name, value in weights.items()]

    def add(operator: str, inputs: list[str], output: str, **attributes) -> str:
        domain = "" if operator == "MatMul" else FUSED
        nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    x = "x"
    for i in range(n_blocks):
        at = f"blocks.{i}."

        def product(x: str, layer: str) -> str:
            return add("MatMul", [x, f"{at}{layer}.weight"], f"{at}{layer}.y")

        def norm(x: str, residual: str, name: str, bias: str) -> str:
            inputs = [x, residual, f"{at}{name}.gamma", f"{at}{name}.beta", f"{at}{bias}.bias"]
            return add("SkipLayerNormalization", inputs, f"{at}{name}.y", epsilon=EPS)

        inputs = [x, f"{at}qkv.weight", f"{at}qkv.bias"]
        found = add("Attention", inputs, f"{at}attention.y", num_heads=n_heads)
        h = norm(product(found, "out"), x, "norm_attention", "out")
        hidden = add("BiasGelu", [product(h, "first"), f"{at}first.bias"], f"{at}gelu.y")
        x = norm(product(hidden, "second"), h, "norm_ff", "second")
    shape = ["n", "length", width]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        constants,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=6.0)
    args = parser.parse_args()
    tune.pin()
    weights = load_file(args.file)
    x, answer = weights.pop("tokens"), weights.pop("answer")
    n_heads = int(weights.pop("heads")[0])
    n_blocks = 1 + max(int(name.split(".")[1]) for name in weights)
    options = ort.SessionOptions()
    options.intra_op_num_threads = tune.N_THREADS
    options.inter_op_num_threads = 1
    model = build(weights, n_blocks, n_heads, x.shape[-1])
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def forward() -> np.ndarray:
        return session.run(None, {"x": x})[0]

    error = float(np.abs(forward() - answer).max())
    forward()
    times, end = [], time.perf_counter() + args.seconds
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        forward()
        times.append(time.perf_counter() - started)
    tune.print_result(
        "encoder_ort",
        {
            "sequences_per_s": round(len(x) / statistics.median(times), 2),
            "best_sequences_per_s": round(len(x) / min(times), 2),
            "max_difference": error,
            "n_passes": len(times),
        },
        {"batch": list(x.shape), "onnxruntime": ort.__version__},
    )


if __name__ == "__main__":
    main()

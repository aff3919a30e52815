#!/usr/bin/env python3
"""Write the flights MLP as ONNX, for score_flights_ort.py. Built node by node: no torch.onnx, no tracing.

    export_flights_onnx.py --weights WEIGHTS.npz --out MODEL.onnx   what `train_flights_torch.py --save` wrote
    export_flights_onnx.py --data DIR --out MODEL.onnx              random weights; same shapes, so same speed

One int32 input for each categorical column, one f32 input [rows, 4]; output `score`, a probability, f32 [rows].
The plan (vocabularies and scales) goes into the file's metadata under `plan`.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import flights_rows as rows

OPSET = 21
IR_VERSION = 10


def main() -> None:
    parser = argparse.ArgumentParser()
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path)
    source.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.weights:
        with np.load(args.weights) as archive:
            weights = {name: archive[name] for name in archive.files}
        plan = rows.Plan(**json.loads(str(weights.pop("plan"))))
    else:
        files = rows.month_files(args.data)
        plan = rows.fit([rows.read_labelled(files[month])[0] for month in range(1, 7)])
        weights = random_weights(plan, args.seed)

    content = build(plan, weights).SerializeToString(deterministic=True)
    args.out.write_bytes(content)
    n_parameters = sum(value.size for value in weights.values())
    result = {
        "peer": "export_flights_onnx",
        "file": args.out.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "n_bytes": len(content),
        "n_parameters": int(n_parameters),
        "tables": dict(zip(rows.CATEGORICAL, plan.table_shapes())),
        "weights": "trained" if args.weights else f"random, seed {args.seed}",
        "onnx": onnx.__version__,
        "opset": OPSET,
    }
    print(json.dumps(result))


def random_weights(plan: rows.Plan, seed: int) -> dict[str, np.ndarray]:
    """Drawn as PyTorch would: embeddings N(0, 1), linear layers uniform within 1 / sqrt(inputs)."""
    rng = np.random.default_rng(seed)
    shapes = plan.table_shapes()
    weights = {}
    for idx, shape in enumerate(shapes):
        weights[f"tables.{idx}.weight"] = rng.standard_normal(shape, np.float32)
    n_inputs = sum(width for _, width in shapes) + len(rows.NUMERIC)
    for layer, (n_out, n_in) in layer_shapes(n_inputs).items():
        bound = n_in**-0.5
        weights[f"{layer}.weight"] = rng.uniform(-bound, bound, (n_out, n_in)).astype(np.float32)
        weights[f"{layer}.bias"] = rng.uniform(-bound, bound, n_out).astype(np.float32)
    return weights


def layer_shapes(n_inputs: int) -> dict[str, tuple[int, int]]:
    return {"first": (rows.HIDDEN, n_inputs), "second": (rows.HIDDEN, rows.HIDDEN), "last": (1, rows.HIDDEN)}


def build(plan: rows.Plan, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    nodes, inputs, constants, parts = [], [], [], []
    for idx, name in enumerate(rows.CATEGORICAL):
        inputs.append(helper.make_tensor_value_info(name, TensorProto.INT32, ["rows"]))
        constants.append(numpy_helper.from_array(weights[f"tables.{idx}.weight"], f"table_{name}"))
        nodes.append(helper.make_node("Gather", [f"table_{name}", name], [f"embedded_{name}"], axis=0))
        parts.append(f"embedded_{name}")
    inputs.append(helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["rows", len(rows.NUMERIC)]))
    nodes.append(helper.make_node("Concat", [*parts, "numeric"], ["joined"], axis=1))
    previous = "joined"
    for layer in ("first", "second", "last"):
        # Stored [inputs, outputs], so that no Gemm has to transpose.
        weight = np.ascontiguousarray(weights[f"{layer}.weight"].T)
        constants.append(numpy_helper.from_array(weight, f"{layer}_weight"))
        constants.append(numpy_helper.from_array(weights[f"{layer}.bias"], f"{layer}_bias"))
        nodes.append(helper.make_node("Gemm", [previous, f"{layer}_weight", f"{layer}_bias"], [layer]))
        previous = layer
        if layer != "last":
            nodes.append(helper.make_node("Relu", [layer], [f"{layer}_relu"]))
            previous = f"{layer}_relu"
    constants.append(numpy_helper.from_array(np.array([-1], np.int64), "flat"))
    nodes.append(helper.make_node("Reshape", [previous, "flat"], ["logit"]))
    nodes.append(helper.make_node("Sigmoid", ["logit"], ["score"]))
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])]
    graph = helper.make_graph(nodes, "flights_mlp", inputs, outputs, constants)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="")
    helper.set_model_props(model, {"plan": json.dumps(plan.to_dict())})
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    main()

"""Serves a TorchScript reranker on the real Triton Inference Server, as it stands in nvidia-pytriton.

    python serve_triton.py MODEL.pt NAME PORT INPUTS

INPUTS is JSON, [[name, dtype, width], ...] in the order of the model's forward(). Beside it stands `echo`, whose outputs are
its inputs, one of each datatype. Prints `ready`, and stops when standard input ends.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

model_path, name, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
DTYPES = {"float32": np.float32, "int64": np.int64}
inputs = json.loads(sys.argv[4])
model = torch.jit.load(str(model_path)).eval()
torch.set_num_threads(1)


@batch
def infer(**tensors):
    with torch.inference_mode():
        scores = model(*[torch.from_numpy(tensors[input_name]) for input_name, _, _ in inputs])
    return {"score": scores.numpy().reshape(-1, 1)}


ECHOED = {
    "fp16": np.float16,
    "fp32": np.float32,
    "fp64": np.float64,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
    "bytes": np.object_,
}


@batch
def echo(**tensors):
    return {f"{kind}_out": tensors[kind] for kind in ECHOED}


config = TritonConfig(http_port=port, http_address="127.0.0.1", allow_grpc=False, allow_metrics=False)
with Triton(config=config) as triton:
    triton.bind(
        model_name=name,
        infer_func=infer,
        inputs=[Tensor(name=input_name, dtype=DTYPES[dtype], shape=(width,)) for input_name, dtype, width in inputs],
        outputs=[Tensor(name="score", dtype=np.float32, shape=(1,))],
        # Any batch that a request of Belfry may have.
        config=ModelConfig(max_batch_size=5000),
    )
    triton.bind(
        model_name="echo",
        infer_func=echo,
        inputs=[Tensor(name=kind, dtype=dtype, shape=(2,)) for kind, dtype in ECHOED.items()],
        outputs=[Tensor(name=f"{kind}_out", dtype=dtype, shape=(2,)) for kind, dtype in ECHOED.items()],
        config=ModelConfig(max_batch_size=8),
    )
    triton.run()
    print("ready", flush=True)
    sys.stdin.read()

"""Scores of a TorchScript model on inputs of a file, in the order of its forward().

    python torch_scores.py MODEL.pt INPUTS NAMES

Prints a JSON list. INPUTS is .npz, or .json of {name: {dtype, dims, data}}. NAMES is a JSON list of the inputs.
"""

import json
import sys

import numpy as np
import torch

if sys.argv[2].endswith(".json"):
    with open(sys.argv[2]) as file:
        tensors = json.load(file)
    arrays = {name: np.array(one["data"], one["dtype"]).reshape(one["dims"]) for name, one in tensors.items()}
else:
    arrays = np.load(sys.argv[2])
model = torch.jit.load(sys.argv[1]).eval()
with torch.inference_mode():
    scores = model(*[torch.from_numpy(arrays[name]) for name in json.loads(sys.argv[3])])
print(json.dumps(scores.reshape(-1).tolist()))

"""Serves an ONNX reranker on KServe's own model server, by Python's ONNX Runtime.

    python serve_kserve.py MODEL.onnx NAME PORT

Stops when standard input ends.
"""

import os
import sys
import threading

import onnxruntime
from kserve import InferOutput, InferResponse, Model, ModelServer


class Reranker(Model):
    def __init__(self, path, name):
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options)
        self.ready = True

    async def get_input_types(self):
        return [self.described(tensor) for tensor in self.session.get_inputs()]

    async def get_output_types(self):
        return [self.described(tensor) for tensor in self.session.get_outputs()]

    def described(self, tensor):
        datatype = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(int32)": "INT32"}[tensor.type]
        return {"name": tensor.name, "datatype": datatype, "shape": [d if isinstance(d, int) else -1 for d in tensor.shape]}

    def predict(self, payload, headers=None, response_headers=None):
        feeds = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        (score,) = self.session.run(["score"], feeds)
        output = InferOutput(name="score", shape=list(score.shape), datatype="FP32")
        output.set_data_from_numpy(score, binary_data=False)
        return InferResponse(
            response_id=payload.id,
            model_name=self.name,
            infer_outputs=[output],
            # Whether they travel as JSON or raw, as the client wants it.
            requested_outputs=payload.request_outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


def stop_with_input():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=stop_with_input, daemon=True).start()
server = ModelServer(http_port=int(sys.argv[3]), enable_grpc=False, workers=1)
server.start([Reranker(sys.argv[1], sys.argv[2])])

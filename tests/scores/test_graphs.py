"""Every static score as an ONNX graph: the same numbers for any number of images."""

import logging
import warnings

import numpy as np
import pytest
import torch
from bank_fakes import with_head
from test_portable import STATIC, fitted, maps_of
from torch import nn
from torch.nn.functional import normalize

from mmood.scores.base import Embedded

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

QUICK = {"NegLabel", "NNGuide", "SCALE"}


class Graph(nn.Module):
    def __init__(self, score):
        super().__init__()
        self.score, reference = score, with_head()
        self.weight, self.bias = reference.weight, reference.bias

    def forward(self, images):
        logits = torch.addmm(self.bias, images, self.weight.T)
        return self.score(Embedded(images, logits, normalize(images, dim=1), *maps_of(images)))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in STATIC]
)
def test_the_graph_gives_the_same_scores(name):
    graph = Graph(fitted(name)).eval()
    generator = torch.Generator().manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        program = torch.onnx.export(
            graph,
            (torch.randn(5, 6, generator=generator),),
            dynamo=True,
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
        logging.disable(logging.NOTSET)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for count, scale in ((1, 1.0), (7, 1.0), (40, 30.0)):
        images = scale * torch.randn(count, 6, generator=generator)
        expected = graph(images).float().numpy()
        (found,) = session.run(None, {"images": images.numpy()})
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

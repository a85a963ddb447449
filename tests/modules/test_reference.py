"""What scores may know: text prototypes when they are asked for, and a reference without some of the classes."""

import pytest
import torch

from mmood.encoders import EncoderSettings, build_encoder
from mmood.encoders.vision_language import VisionLanguageEncoder
from mmood.modules.reference import ModelReference
from mmood.scores.base import Bank, LinearHead
from mmood.tuning.held_out import WithoutClasses

NAMES = ("cat", "dog", "red panda", "truck")


@pytest.fixture(scope="module")
def encoder(toy_model):
    return build_encoder(EncoderSettings(toy_model)).eval()


class Provider:
    """Gives out five images, and says how often it was asked."""

    asked = 0

    def bank(self, shots, transform, labels, descriptors):
        self.asked += 1
        labels = torch.tensor([3, 1, 0, 3, 2])
        return Bank(torch.arange(10.0).reshape(5, 2), labels, torch.arange(5) + 50, None, {"shots": shots})


def test_prototypes_are_made_once_and_not_before_a_score_asks(encoder, monkeypatch):
    made = []
    original = VisionLanguageEncoder.prototypes
    monkeypatch.setattr(VisionLanguageEncoder, "prototypes", lambda self, *of: made.append(of) or original(self, *of))
    reference = ModelReference(encoder, NAMES, ["a {}"])
    reference.encode_text(["a boat"])
    assert reference.head() is None
    assert made == []
    expected = torch.nn.functional.normalize(encoder.encode_text([f"a {name}" for name in NAMES]), dim=-1)
    torch.testing.assert_close(reference.prototypes, expected)
    assert reference.prototypes is reference.prototypes
    assert len(made) == 1


def test_without_classes_nothing_is_left_of_them(encoder):
    linear = LinearHead("features", torch.arange(8.0).reshape(4, 2), torch.arange(4.0))
    provider = Provider()
    whole = ModelReference(encoder, NAMES, ["a {}"], (linear,), provider)
    part = WithoutClasses(whole, torch.tensor([1, 3]))
    assert list(part.class_names) == ["dog", "truck"]
    assert torch.equal(part.prototypes, whole.prototypes[[1, 3]])
    assert torch.equal(part.head().weight, linear.weight[[1, 3]])
    assert torch.equal(part.head().bias, linear.bias[[1, 3]])
    bank = part.bank(shots=7)
    assert bank.labels.tolist() == [1, 0, 1]
    assert bank.keys.tolist() == [50, 51, 53]
    assert bank.features.tolist() == [[0, 1], [2, 3], [6, 7]]
    assert bank.identity == {"shots": 7, "classes": [1, 3]}
    assert part.bank(shots=7) is bank
    assert provider.asked == 1
    # The encoder is the same, so what it says of texts is too.
    assert part.identity() == whole.identity()
    assert torch.equal(part.encode_text(["a boat"]), whole.encode_text(["a boat"]))

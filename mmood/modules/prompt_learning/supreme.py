"""SUPREME: prompts biased by the images' domain, and maps between the modalities."""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mmood.errors import MmoodError
from mmood.modules.gather import gathered
from mmood.modules.prompt_learning.context import INITIAL_STD, ContextSettings
from mmood.modules.prompt_learning.method import AbstractPromptMethod, Texts, TextSide, Views
from mmood.prompts import PromptFamily, Role
from mmood.settings import check_choice, check_number
from mmood.shards.hashes import digest

_CONTEXT = ContextSettings(start="a photo of a")


@final
class SUPREME(AbstractPromptMethod):
    """SUPREME (arXiv 2502.00662), experimental: the paper's text was not read, this follows a third party's formulas.

    Every vector of the context is shifted by m(I) + b: m an MLP of the mean image of the batch, b ~ N(mu, S S^T) a
    learned Gaussian, b = mu at test. Two linear maps A (image to text) and B (text to image) are trained for cycles
    that return. The score is `GMP`, of text prototypes and image prototypes (the normalised mean of each class's shots
    under the eval transform).

    Warning:
        A number of this class is no reproduction: its formulas are second-hand, and temperature and
        conditioning at test time are not known.

    Args:
        context: the vectors; the paper's begin with "a photo of a".
        alpha: weight of L_inter + L_intra.
        beta: weight of L_bias.
        temperature: of the losses, divides the cosine; None for the inverse of the tower's logit scale, which is the
            0.01 of the formulas for OpenAI's CLIP (ours: at 0.01, training with a tower whose own is 0.063 ended at
            chance).
        maps: where A and B begin: `identity` and N(0, 0.02^2 / D) (ours; L_intra has no gradient where a cycle is
            perfect), or `random`, N(0, 1 / D).
        condition: what m reads: in training the mean image of the batch, at test that of the shots (ours): `mean`; or
            only the latter, always: `support` (ours).
    """

    reads_support = True

    def __init__(
        self,
        context: ContextSettings = _CONTEXT,
        alpha: float = 0.005,
        beta: float = 0.1,
        temperature: float | None = None,
        maps: Literal["identity", "random"] = "identity",
        condition: Literal["mean", "support"] = "mean",
    ) -> None:
        super().__init__()
        check_number("SUPREME.alpha", alpha, least=0)
        check_number("SUPREME.beta", beta, least=0)
        check_number("SUPREME.temperature", temperature, above=0, null="the inverse of the tower's logit scale")
        check_choice("SUPREME.maps", maps, ("identity", "random"))
        check_choice("SUPREME.condition", condition, ("mean", "support"))
        self.context = context
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.maps = maps
        self.condition = condition

    def build(self, side: TextSide, seed: int) -> None:
        """Make context, MLP, Gaussian and maps."""
        self._names = tuple(side.class_names)
        classes, dim = len(side.class_names), side.encoder.embedding_dim
        self.positive = side.context(self.context, self.context.layout(), self.context.contexts(classes), (seed, 0))
        width = self.positive.vectors.shape[-1]
        generator = torch.Generator().manual_seed(digest(seed, 2) % 2**63)

        def drawn(*shape: int) -> Tensor:
            found: Tensor = torch.randn(*shape, generator=generator) * shape[-1] ** -0.5
            return found

        self.hidden, self.hidden_bias = nn.Parameter(drawn(dim, dim)), nn.Parameter(torch.zeros(dim))
        # Near 0, so that the context begins as the phrase.
        self.out = nn.Parameter(INITIAL_STD * torch.randn(width, dim, generator=generator))
        self.out_bias = nn.Parameter(torch.zeros(width))
        self.bias_mean = nn.Parameter(torch.zeros(width))
        self.bias_root = nn.Parameter(0.01 * torch.eye(width))
        near_identity = self.maps == "identity"
        self.image_to_text, self.text_to_image = (
            nn.Parameter(torch.eye(dim) + INITIAL_STD * matrix) if near_identity else nn.Parameter(matrix)
            for matrix in (drawn(dim, dim), drawn(dim, dim))
        )
        self.support_mean: Tensor
        self.image_prototypes: Tensor
        self.register_buffer("support_mean", torch.zeros(dim))
        self.register_buffer("image_prototypes", torch.zeros(classes, dim))

    def texts(self, side: TextSide, views: Views, generator: torch.Generator) -> Texts:
        """Return the class prompts with a drawn bias, and the bias."""
        noise = torch.randn(self.bias_mean.shape, generator=generator).to(self.bias_mean.device)
        with torch.autocast(self.bias_mean.device.type, enabled=False):
            bias = self.bias_mean + self.bias_root.tril() @ noise
            mean = self.support_mean if self.condition == "support" else gathered(views.embedding[:, 0]).mean(dim=0)
            shift = self.meta(mean) + bias
        return {"positive": side.encode(self.positive, shift), "bias": bias}

    def loss(self, views: Views, texts: Texts, scale: Float[Tensor, ""], step: int) -> Float[Tensor, ""]:
        """Return L_id + alpha (L_inter + L_intra) + beta L_bias."""
        images, prompts = views.embedding[:, 0], texts["positive"]
        factor = scale if self.temperature is None else 1 / self.temperature
        own = functional.cross_entropy(factor * images @ prompts.T, views.label)
        consistency = consistency_loss(images, prompts, views.label, self.image_to_text, self.text_to_image, factor)
        shifts = self.meta(images)
        bias = _distance(self.bias_mean, shifts) + _distance(texts["bias"], shifts)
        total: Tensor = own + self.alpha * consistency + self.beta * bias
        return total

    def meta(self, images: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows width"]:
        """Return m(I): two linear layers with a ReLU between."""
        hidden = functional.linear(images, self.hidden, self.hidden_bias).relu()
        return functional.linear(hidden, self.out, self.out_bias)

    def families(self) -> dict[Role, PromptFamily]:
        """Return the context as it is at test, shifted by m(mean of the shots) + mu."""
        family = self.positive.family()
        with torch.no_grad():
            shift = self.meta(self.support_mean) + self.bias_mean
        return {"positive": PromptFamily(family.context + shift.float().cpu(), family.layout)}

    def tensors(self) -> dict[str, Tensor]:
        """Return the maps and the image prototypes."""
        return {
            "image_to_text": self.image_to_text,
            "text_to_image": self.text_to_image,
            "image_prototypes": self.image_prototypes,
        }

    def learn_support(self, embedding: Float[Tensor, "images dim"], labels: Int[Tensor, " images"]) -> None:
        """Take the mean of the shots, and the normalised mean of those of each class.

        Raises:
            MmoodError: a class has none.
        """
        missing = [name for label, name in enumerate(self._names) if not (labels == label).any()]
        if missing:
            raise MmoodError(f"SUPREME needs images of every ID class, but data.train has none of '{missing[0]}'.")
        self.support_mean.copy_(embedding.mean(dim=0))
        sums = torch.zeros_like(self.image_prototypes).index_add_(0, labels, embedding)
        self.image_prototypes.copy_(functional.normalize(sums, dim=-1))


def consistency_loss(
    images: Float[Tensor, "batch dim"],
    texts: Float[Tensor, "classes dim"],
    label: Int[Tensor, " batch"],
    to_text: Float[Tensor, "dim dim"],
    to_image: Float[Tensor, "dim dim"],
    scale: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    """Return L_inter + L_intra of image-text consistency.

    L_inter = CE(I, B P) + CE(A I, P), L_intra = mean_i |I - B A I|_1 + mean_c |P - A B P|_1, every result of a map
    normalised. With A = B = 1 it is twice the cross-entropy of cosines times `scale` (1 / temperature).

    >>> one = torch.eye(2)
    >>> consistency_loss(one, one, torch.tensor([0, 1]), one, one, 1.0)
    tensor(0.6265)
    """
    images_as_text, texts_as_image = _mapped(images, to_text), _mapped(texts, to_image)
    inter = functional.cross_entropy(scale * images @ texts_as_image.T, label)
    inter = inter + functional.cross_entropy(scale * images_as_text @ texts.T, label)
    image_cycle = _distance(images, _mapped(images_as_text, to_image))
    return inter + image_cycle + _distance(texts, _mapped(texts_as_image, to_text))


def _distance(one: Float[Tensor, "*rows dim"], other: Float[Tensor, "rows dim"]) -> Float[Tensor, ""]:
    """Return the mean L1 distance of rows."""
    return (one - other).abs().sum(dim=1).mean()


def _mapped(rows: Float[Tensor, "rows dim"], linear: Float[Tensor, "dim dim"]) -> Float[Tensor, "rows dim"]:
    return functional.normalize(rows @ linear.T, dim=-1)

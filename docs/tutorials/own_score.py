# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---
# %% [markdown]
# # A score of your own
#
# A score maps a batch to one number per image. Ours asks whether the two best classes *agree*: how much of the softmax mass the two nearest classes
# have together. (It is made up for this page; that it is any good remains to be seen.)

# %%
# !mmood demo --world_only --size 300 --steps 80 --pictures 5000

# %% [markdown]
# ## The class
#
# The mathematics is a pure function; the class holds the settings. Written into a file of its own, a config can name it.

# %%
from pathlib import Path

_ = Path("two_best.py").write_text('''
"""A score of our own."""

from torch import Tensor

from mmood import AbstractScore, Embedded, MmoodError


def two_best(logits: Tensor, temperature: float) -> Tensor:
    """Return the log-odds of the softmax mass of the two largest logits, (B,)."""
    probabilities = (logits.double() / temperature).softmax(dim=1)
    mass = probabilities.topk(2, dim=1).values.sum(dim=1)
    return (mass.log() - (1 - mass).log()).float()


class TwoBest(AbstractScore):
    """The softmax mass of the two nearest classes, as log-odds.

    Args:
        temperature: divides the cosine.
    """

    def __init__(self, temperature: float = 0.05) -> None:
        super().__init__()
        if not temperature > 0:
            raise MmoodError(f"TwoBest.temperature is {temperature}; it must be greater than 0.")
        self.temperature = temperature

    def forward(self, embedded: Embedded) -> Tensor:
        """Return the score of each image."""
        return two_best(embedded.logits, self.temperature)
''')
# %% [markdown]
# ## A check with an independent oracle
#
# Count it again, in another way, on numbers that can be checked by eye.

# %%
import sys

import torch

sys.path.insert(0, ".")
from two_best import two_best

logits = torch.tensor([[3.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
by_hand = [
    (2.718281828**3 + 2.718281828**2) / (2.718281828**3 + 2.718281828**2 + 2),
    0.5,
]
print(
    [round(value, 6) for value in two_best(logits, 1.0).sigmoid().tolist()],
    [round(value, 6) for value in by_hand],
)

# %% [markdown]
# ## In a test
#
# It needs no registration. `PYTHONPATH` is not needed either: mmood looks into the folder where it is started.

# %%
# !mmood test --config demo_zeroshot.yaml --model.scores.two_best two_best.TwoBest --run_dir runs/own --overwrite true

# %% [markdown]
# Its settings are flags now (`--model.scores.two_best.temperature 0.1`), and a bad one ends the command with its sentence before
# an image is read:

# %%
from two_best import TwoBest

from mmood import MmoodError

try:
    TwoBest(temperature=-1)
except MmoodError as error:
    print(error)

# %% [markdown]
# ## Choosing its temperature without the test sets
#
# `mmood tune` tries a grid on validation sets, and refuses them if they share anything with the test sets.

# %%
Path("tuned.yaml").unlink(missing_ok=True)
# !mmood tune --config demo_zeroshot.yaml --model.scores.two_best two_best.TwoBest --grid '{two_best: {temperature: [0.02, 0.05, 0.1, 0.5]}}' --out tuned.yaml

# %% [markdown]
# A score that compares with training images gets them in `fit(reference)`; `tests/examples/own_score.py` in the repository reads patches.
# [A score of your own](../howto/own-score.md) has the rules.

"""The claims of docs/claims.md: which runs stand on either side, and what is to be known of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """A score of one run, or of a run for each seed.

    Attributes:
        run: folder below one of the work folders; {model} and {seed} are filled in.
        score: of the run.
        less: another score of the run; the side is then how far the first is ahead of it.
    """

    run: str
    score: str
    less: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, and the runs that it is tried on.

    Attributes:
        title: the claim.
        source: who makes it.
        better: the side that is said to be better.
        worse: the other one.
        models: which small CLIPs it is tried on.
        note: how it was tried, and why it may come out so.
    """

    title: str
    source: str
    better: Side
    worse: Side
    models: tuple[str, ...]
    note: str


BOTH = ("liteclip", "miniclip")
STATIC = "work/runs/{model}/static"
ALIGNED = "alignment/runs"

CLAIMS = (
    Claim(
        "NegLabel beats MCM",
        "NegLabel, arXiv 2403.20078",
        Side(STATIC, "neglabel"),
        Side(STATIC, "mcm"),
        BOTH,
        "Both with their papers' settings. Near OoD are classes of the same data set, whose names may be among the mined "
        "negative labels or not; textures are far from all names. miniclip's text tower has seen captions of its 200 classes "
        "and nothing else, so most negative labels are words that it does not know.",
    ),
    Claim(
        "NegLabel beats MCM, 1,000 classes",
        "NegLabel, arXiv 2403.20078",
        Side("work/runs/{model}/imagenet", "neglabel"),
        Side("work/runs/{model}/imagenet", "mcm"),
        BOTH,
        "ImageNet's 1,000 classes, one image of each, against 300 textures: the setting of the paper, on a small sample.",
    ),
    Claim(
        "CSP beats NegLabel",
        "CSP, arXiv 2410.08611",
        Side("work/runs/{model}/csp", "csp"),
        Side(STATIC, "neglabel"),
        BOTH,
        "CSP's pool has superclasses with adjectives (`white item`): whether they attract OoD images depends on whether the "
        "text tower composes words, which these small ones hardly do.",
    ),
    Claim(
        "A probe on pseudo-labels (PLP) beats zero-shot",
        "PLP, arXiv 2303.05828",
        Side("work/runs/{model}/plp-{seed}", "msp"),
        Side("work/runs/{model}/plp-prompts", "mcm"),
        BOTH,
        "Maximum softmax probability of the probe against MCM with the same five prompts. The paper's gain is with towers of "
        "billions of parameters, whose pseudo-labels are mostly right.",
    ),
    Claim(
        "A probe on true labels beats zero-shot",
        "PLP, arXiv 2303.05828",
        Side("work/runs/{model}/linear-{seed}", "msp"),
        Side("work/runs/{model}/plp-prompts", "mcm"),
        BOTH,
        "What pseudo-labels could reach at best.",
    ),
    Claim(
        "Linear probing beats fine-tuning (FFT)",
        "PLP, arXiv 2303.05828",
        Side(f"{ALIGNED}/probe-{{seed}}/test", "msp"),
        Side(f"{ALIGNED}/fft-{{seed}}/test", "msp"),
        ("miniclip",),
        "FFT starts from a random head and is trained for as many steps as FLYP; at this rate they do not train it.",
    ),
    Claim(
        "Linear probing beats fine-tuning from the probed head (LP-FT)",
        "PLP, arXiv 2303.05828",
        Side(f"{ALIGNED}/probe-{{seed}}/test", "msp"),
        Side(f"{ALIGNED}/lpft-{{seed}}/test", "msp"),
        ("miniclip",),
        "The fairer form of the same claim: the head is trained, and only the tower is moved.",
    ),
    Claim(
        "CMA beats FLYP, scored by NegLabel",
        "CMA, arXiv 2503.18817",
        Side(f"{ALIGNED}/cma-{{seed}}/test", "neglabel"),
        Side(f"{ALIGNED}/flyp-{{seed}}/test", "neglabel"),
        ("miniclip",),
        "Learning rate and λ were chosen on 20 held-out classes, λ among 0.001, 0.01 and 0.1; every one of them was a "
        "little below FLYP there, and the smallest, the paper's, the least. With it the losses differ by a thousandth of "
        "the repulsion. [Alignment](alignment.md#measured) has a full run of the same script: there the seeds differ ten "
        "times as much as the two methods.",
    ),
    Claim(
        "CMA beats FLYP, scored by MCM",
        "CMA, arXiv 2503.18817",
        Side(f"{ALIGNED}/cma-{{seed}}/test", "mcm"),
        Side(f"{ALIGNED}/flyp-{{seed}}/test", "mcm"),
        ("miniclip",),
        "The paper itself reports no gain over m2-mix here.",
    ),
    Claim(
        "Negative labels help fine-tuned towers (FLYP) more than the pre-trained one",
        "CMA, arXiv 2503.18817",
        Side(f"{ALIGNED}/flyp-{{seed}}/test", "neglabel", "mcm"),
        Side(f"{ALIGNED}/zeroshot/test", "neglabel", "mcm"),
        ("miniclip",),
        "The numbers are how far NegLabel's AUROC is ahead of MCM's on the same tower.",
    ),
    Claim(
        "Negative labels help fine-tuned towers (CMA) more than the pre-trained one",
        "CMA, arXiv 2503.18817",
        Side(f"{ALIGNED}/cma-{{seed}}/test", "neglabel", "mcm"),
        Side(f"{ALIGNED}/zeroshot/test", "neglabel", "mcm"),
        ("miniclip",),
        "As above.",
    ),
    Claim(
        "Streams beat static words: AdaNeg against NegLabel",
        "AdaNeg, arXiv 2410.20149",
        Side("work/runs/{model}/adaneg", "adaneg"),
        Side(STATIC, "neglabel"),
        BOTH,
        "Its gates are made for the scale of OpenAI's CLIP: with another scale they admit too much. The paper's gain is far.",
    ),
    Claim(
        "Streams beat static words: TANL against NegLabel",
        "TANL, arXiv 2603.25250",
        Side("work/runs/{model}/tanl", "tanl"),
        Side(STATIC, "neglabel"),
        BOTH,
        "TANL ranks the words anew by what the stream activates, with a threshold of its own. [Streams]"
        "(streams.md#which-claims-hold) has five scores of this kind on miniclip, and other orders.",
    ),
    Claim(
        "Streams beat static words: CoEvo against NegLabel",
        "CoEvo, arXiv 2601.08476",
        Side("work/runs/{model}/coevo", "coevo"),
        Side(STATIC, "neglabel"),
        BOTH,
        "No code of the paper was released; most settings are mmood's.",
    ),
)
"""The claims that are tried with the scores of single images."""


@dataclass(frozen=True)
class Learned:
    """A claim on learned prompts, tried by `table_prompts.py`, which keeps numbers and no scores.

    Attributes:
        title: the claim.
        source: who makes it.
        better: method and score of the side that is said to be better, with 16 shots.
        worse: likewise, of the fixed prompt with no shots if the method is ZeroShot.
        note: see `Claim`.
    """

    title: str
    source: str
    better: tuple[str, str]
    worse: tuple[str, str]
    note: str


LEARNED = (
    Learned(
        "Learned prompts beat fixed ones: CoOp against the fixed prompt",
        "CMA's table 1, arXiv 2503.18817",
        ("CoOp", "MCM"),
        ("ZeroShot", "MCM"),
        "The context is trained on ID images alone, and nothing holds it where no ID image is. The text tower of liteclip was "
        "distilled from class names in fixed prompts, so a learned context leaves what it has seen.",
    ),
    Learned(
        "Learned prompts beat fixed ones under NegLabel (context learned for negatives, too)",
        "CMA's table 1, arXiv 2503.18817",
        ("CoOp", "NegLabel, learned negatives"),
        ("ZeroShot", "NegLabel"),
        "As above.",
    ),
    Learned(
        "Background regions help: LoCoOp against CoOp, by GL-MCM",
        "LoCoOp, arXiv 2306.01293",
        ("LoCoOp", "GL-MCM"),
        ("CoOp", "GL-MCM"),
        "The one term by which they differ acts on regions without the class.",
    ),
    Learned(
        "Learned negative prompts beat the fixed prompt: NegPrompt",
        "NegPrompt, CVPR 2024",
        ("NegPrompt", "NegPromptScore"),
        ("ZeroShot", "MCM"),
        "In mmood's repaired form, on top of CoOp's prompts.",
    ),
    Learned(
        "Local and negative prompts beat the fixed prompt: Local-Prompt",
        "Local-Prompt, arXiv 2409.04796",
        ("Local-Prompt", "LocalPromptScore"),
        ("ZeroShot", "MCM"),
        "Its regions are 25 per image here, where ViT-B/16 has 196.",
    ),
    Learned(
        "Text and image prototypes together beat texts: MMP against MCM",
        "SUPREME, arXiv 2502.00662",
        ("MMP", "MMP"),
        ("ZeroShot", "MCM"),
        "The training-free half of the method; it has 16 labelled images of each class, and MCM has none.",
    ),
)

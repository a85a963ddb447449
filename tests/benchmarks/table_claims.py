"""Which claims of the papers hold here? Two sides on the same images, the difference with its interval, and a verdict.

`make` runs what no other script runs (claims_runs.py); `alignment` is the work folder of table_alignment.py, `prompts` the
results of table_prompts.py. The page is written from these files alone: no number is typed.

    MMOOD_REAL_DATA=... python tests/benchmarks/table_claims.py --work DIR [--only static probes streams csp] [--models ...]
    python tests/benchmarks/table_claims.py --work DIR --alignment DIR --prompts tables.json --page
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from claims import BOTH, CLAIMS, LEARNED, Claim, Learned, Side
from claims_runs import SEEDS, Runs
from scipy.stats import t as student

from mmood.metrics.bootstrap import Replicates, bootstrap, mean_replicates, percentile_interval
from mmood.metrics.functional import auroc

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"
PLACES = {"near": "near-ood", "far": "far-textures"}
RESAMPLES = 2000
INTRODUCTION = """\
# Claims of the papers, tried

`python tests/benchmarks/table_claims.py` writes this page from runs on small real images; no number in it is typed. It says
what holds *here*: on two small CLIPs, at low resolution, with the papers' settings. A claim that does not hold here may well
hold with ViT-B/16 on ImageNet-1k, where the papers made it; [`mmood reproduce`](benchmarks.md#reproduce-a-paper) is for
that.

* **Data.** ID: 100 classes of Tiny ImageNet. Near OoD: the other 100 classes. Far OoD: 300 textures. In the rows on 1,000
  classes, ID is one image of each class of ImageNet-1k.
* **Models.** `liteclip`: an EfficientNet-Lite2 trained on ImageNet-1k with a text tower distilled along WordNet; every fifth
  image of ID and near OoD, and 20 training images of each class. `miniclip`: a ResNet-18 at 64 pixels, pre-trained on the
  classes; all images, 200 training images of each class. Rows on fine-tuning are a reduced form: 30 training images of
  each class, one epoch, every eighth test image of ID and near OoD.
* **Intervals.** 95 %, of the difference, a bootstrap over the images with {resamples:,} resamples that draws the same images for
  both sides. Where there is chance (training, order of a stream), the numbers are means over the seeds ± their standard
  deviation; a number of such a row without ± is of one seed, and its interval does not cover another training. Rows on
  learned prompts have no scores of single images: their interval is Student's over three seeds.
* **Verdict.** *Holds*: the interval is above 0, and so is the difference of each seed. *Does not*: the interval is below 0.
  *Cannot be told*: it contains 0, or the seeds disagree. *Not run*: the runs of this claim have not been made.

AUROC in per cent.
"""

ELSEWHERE = """\
* Local adversarial attacks help ObsNet: [scores of pixels](dense.md).
* Several scales beat one vector (MODE against k-NN): [scales](scales.md).
* More learned prompts, with 1 and 4 shots: [learned prompts](prompts.md). Streams in other orders: [streams](streams.md).
* Names of outliers (EOE) against mined words: [names of outliers](names.md)."""


@dataclass(frozen=True)
class Result:
    """A claim in one place.

    Attributes:
        model: the small CLIP.
        place: near or far.
        better: AUROC of the side that is said to be better, one value for each seed.
        worse: of the other one.
        interval: of the difference of the means.
    """

    model: str
    place: str
    better: tuple[float, ...]
    worse: tuple[float, ...]
    interval: tuple[float, float]

    @property
    def differences(self) -> list[float]:
        """Difference of each seed."""
        length = max(len(self.better), len(self.worse))
        return [self.better[i % len(self.better)] - self.worse[i % len(self.worse)] for i in range(length)]

    @property
    def verdict(self) -> str:
        """What may be concluded."""
        low, high = self.interval
        if low > 0 and all(value > 0 for value in self.differences):
            return "holds"
        return "does not" if high < 0 else "cannot be told"


def main() -> None:
    """Make the runs, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs that this script makes")
    parser.add_argument("--only", nargs="*", default=["static", "probes", "streams", "csp"], help="which runs")
    parser.add_argument("--models", nargs="*", default=list(BOTH))
    parser.add_argument("--alignment", type=Path, help="work folder of table_alignment.py")
    parser.add_argument("--prompts", type=Path, help="tables.json of table_prompts.py")
    parser.add_argument("--page", action="store_true", help="write docs/claims.md")
    options = parser.parse_args()
    if not options.page:
        for model in options.models:
            Runs(options.work.resolve(), Path(os.environ["MMOOD_REAL_DATA"]), model).make(options.only)
        return
    folders = {"work": options.work, "alignment": options.alignment}
    learned = json.loads(options.prompts.read_text()) if options.prompts else []
    results = [(claim, list(_tried(claim, folders))) for claim in CLAIMS]
    results += [(claim, list(_learned(claim, learned))) for claim in LEARNED]
    PAGE.write_text(_page(results, options.alignment))
    data = [{"claim": claim.title, "results": [vars(one) for one in own]} for claim, own in results]
    (options.work / "claims.json").write_text(json.dumps(data, indent=1))


def _tried(claim: Claim, folders: dict[str, Path | None]) -> Iterator[Result]:
    for model in claim.models:
        for place, of in PLACES.items():
            sides = [_replicates(side, model, of, folders) for side in (claim.better, claim.worse)]
            if all(sides):
                (better, drawn), (worse, other) = sides
                interval = percentile_interval((drawn - other).auroc)
                yield Result(model, place, better, worse, tuple(interval))


def _replicates(
    side: Side, model: str, of: str, folders: dict[str, Path | None]
) -> tuple[tuple[float, ...], Replicates] | None:
    """Return the AUROC of each seed, and the mean replicates; None if a run is missing."""
    root, _, rest = side.run.partition("/")
    folder = folders[root]
    if folder is None:
        return None
    runs = [rest.format(model=model, seed=seed) for seed in (SEEDS if "{seed}" in rest else (0,))]
    runs = [run for run in runs if (folder / run / "results.json").exists()]
    parts = []
    for score in filter(None, (side.score, side.less)):
        found = [pair for run in runs for pair in _scores(folder / run, score, of)]
        if not found:
            return None
        drawn = [bootstrap({"": own}, {of: {"": other}}, RESAMPLES)["", of] for own, other in found]
        parts.append(([auroc(own, other) for own, other in found], mean_replicates(drawn)))
    (values, mean), *less = parts
    for others, other_mean in less:
        values, mean = [one - other for one, other in zip(values, others, strict=True)], mean - other_mean
    return tuple(values), mean


def _scores(run: Path, score: str, of: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ID and OoD scores, in the order of the keys: of a run, or of each stream of it."""
    streams = sorted((run / "scores" / "streams" / score).glob(f"{of}.*.npz"))
    for path in streams:
        stream = np.load(path)
        order = np.argsort(stream["key"], kind="stable")
        is_ood, values = stream["label"][order] < 0, stream["score"][order]
        yield values[~is_ood], values[is_ood]
    ids = [row["set"] for row in json.loads((run / "results.json").read_text())["id"]]
    files = [run / "scores" / f"{name}.npz" for name in (ids[0], of)]
    if not streams and all(path.exists() for path in files):
        sides = [np.load(path) for path in files]
        if all(score in side for side in sides):
            yield tuple(side[score] for side in sides)


def _learned(claim: Learned, results: list[dict]) -> Iterator[Result]:
    for model in BOTH:
        for place in PLACES:
            sides = [_of_method(*side, model, place, results) for side in (claim.better, claim.worse)]
            if all(sides):
                result = Result(model, place, *sides, (0.0, 0.0))
                if len(result.differences) == 1:  # one seed says nothing of the next one
                    continue
                spread = statistics.stdev(result.differences) / len(result.differences) ** 0.5
                reach = float(student.ppf(0.975, len(result.differences) - 1)) * spread
                mean = statistics.mean(result.differences)
                yield Result(model, place, *sides, (mean - reach, mean + reach))


def _of_method(method: str, score: str, model: str, place: str, results: list[dict]) -> tuple[float, ...]:
    shots = 0 if method == "ZeroShot" else 16
    own = [one for one in results if (one["model"], one["method"], one["shots"]) == (model, method, shots)]
    ordered = sorted(own, key=lambda one: one["seed"])
    return tuple(one["scores"][score][place]["auroc"] for one in ordered if score in one["scores"])


def _page(results: list[tuple[Claim | Learned, list[Result]]], alignment: Path | None) -> str:
    lines = [INTRODUCTION.format(resamples=RESAMPLES), "| claim | near | far |", "|:--|:--|:--|"]
    for claim, own in results:
        missing = "-" if own else "not run"  # a claim of one kind of OoD has nothing to say of the other
        cells = [_verdicts([one for one in own if one.place == place]) or missing for place in PLACES]
        lines.append(f"| [{claim.title}](#{_anchor(claim.title)}) | {' | '.join(cells)} |")
    for claim, own in results:
        lines += ["", f"## {claim.title}", "", f"({claim.source}.) {claim.note}", "", *_table(own)]
    chosen = alignment / "chosen.json" if alignment else None
    if chosen and chosen.exists():
        lines += ["", "## Chosen on held-out classes", "", *_chosen(json.loads(chosen.read_text()))]
        lines += ["", "## CMA narrows the modality gap", "", *_gaps(alignment / "runs")]
    lines += ["", "## On other pages", "", *ELSEWHERE.splitlines()]
    return "\n".join(lines) + "\n"


def _verdicts(own: list[Result]) -> str:
    verdicts = {one.model: one.verdict for one in own}
    if not verdicts:
        return ""
    if len(set(verdicts.values())) == 1:
        return own[0].verdict
    return ", ".join(f"{model}: {verdict}" for model, verdict in verdicts.items())


def _table(own: list[Result]) -> list[str]:
    if not own:
        return ["Not run."]
    lines = ["| model | OoD | said to be better | the other | difference | verdict |", "|:--|:--|--:|--:|--:|:--|"]
    for one in own:
        # Two methods that hardly differ: a tenth of a point would show nothing.
        digits = 1 if max(map(abs, one.interval)) >= 1e-3 else 3
        low, high = (f"{100 * end:+.{digits}f}" for end in one.interval)
        difference = f"{100 * statistics.mean(one.differences):+.{digits}f} [{low}, {high}]"
        cells = [one.model, one.place, _mean(one.better), _mean(one.worse), difference, one.verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _mean(values: tuple[float, ...]) -> str:
    mean = f"{100 * statistics.mean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _chosen(chosen: dict) -> list[str]:
    tried = [f"{name}: {100 * value:.1f} %" for name, value in chosen["accuracy"].items()]
    rows = [
        f"| {weight} | {' | '.join(f'{100 * value:.2f}' for value in scores.values())} |"
        for weight, scores in chosen["auroc"].items()
    ]
    scores = next(iter(chosen["auroc"].values()))
    return [
        f"ID accuracy of FLYP on the validation images: {'; '.join(tried)}. Taken: rate {chosen['rate']}, epochs "
        f"{chosen['epochs']}. AUROC against the held-out classes by λ (0 is FLYP); taken: {chosen['lambda']}.",
        "",
        f"| λ | {' | '.join(scores)} |",
        "|--:|" + "--:|" * len(scores),
        *rows,
    ]


def _gaps(runs: Path) -> list[str]:
    """Return the modality gap that `mmood validate` logged for each λ, on the validation images of the choice."""
    found = {}
    for path in sorted(runs.glob("choose-*/validate/logs/**/metrics.csv")):
        weight, rate, epochs = _choice(path.relative_to(runs).parts[0])
        with path.open() as file:
            values = [row["val/modality_gap"] for row in csv.DictReader(file) if row.get("val/modality_gap")]
        if values:
            found[rate, epochs, weight] = float(values[-1])
    if not found:
        return ["Not run."]
    return [
        "(CMA, arXiv 2503.18817.) Distance of the mean image embedding from the mean text embedding, on the validation images "
        "of the choice; λ = 0 is FLYP. One seed: the number moves one way with λ, or it does not.",
        "",
        "| rate | epochs | λ | modality gap |",
        "|--:|--:|--:|--:|",
        *(f"| {rate} | {epochs} | {weight} | {gap:.4f} |" for (rate, epochs, weight), gap in sorted(found.items())),
    ]


def _choice(name: str) -> tuple[str, str, str]:
    """Return λ, rate and epochs of a run of the choice; a rate may be written with a minus."""
    weight, rest = name.removeprefix("choose-").split("-", 1)
    rate, _, epochs = rest.rpartition("-")
    return weight, rate, epochs


def _anchor(title: str) -> str:
    """Return the anchor that the documentation gives a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


if __name__ == "__main__":
    main()

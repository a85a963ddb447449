"""The benchmarks of the literature: which sets they evaluate on. The sets themselves are in `mmood.recipes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmood.errors import MmoodError, unknown
from mmood.recipes.registry import known_recipe


@dataclass(frozen=True)
class Benchmark:
    """An ID set, groups of OoD sets, and the class list.

    Attributes:
        name: as in `data.benchmark`.
        id: the ID test set.
        ood: group -> names of sets.
        class_names: name of the list of ID classes, None if the ID set itself names them.
        notes: the source of the protocol, and what to know when comparing numbers.
        csid: covariate-shifted ID sets; none without a full spectrum.
    """

    name: str
    id: str
    ood: Mapping[str, tuple[str, ...]]
    class_names: str | None
    notes: str
    csid: tuple[str, ...] = ()

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of all its sets, the ID set first."""
        return (self.id, *self.csid, *(name for names in self.ood.values() for name in names))


_BENCHMARKS = (
    Benchmark(
        "imagenet-mos",
        "imagenet",
        {"far": ("inaturalist", "sun", "places", "textures")},
        "imagenet-openai",
        "MOS (arXiv 2105.01879): all 50,000 validation images, all 5,640 textures.",
    ),
    Benchmark(
        "imagenet-openood",
        "imagenet_openood",
        {"near": ("ssb_hard", "ninco"), "far": ("inaturalist", "textures_5160", "openimage_o")},
        "imagenet-openai",
        "OpenOOD v1.5 (arXiv 2306.09301): 45,000 ID test images, 5,160 textures; NINCO pooled over its classes.",
    ),
    Benchmark(
        "imagenet-full-spectrum",
        "imagenet_openood",
        {"near": ("ssb_hard", "ninco"), "far": ("inaturalist", "textures_5160", "openimage_o")},
        "imagenet-openai",
        "OpenOOD v1.5 (arXiv 2306.09301), full spectrum: its numbers are the rows id+csid, 95,000 ID images.",
        ("imagenet_v2", "imagenet_c", "imagenet_r"),
    ),
    Benchmark(
        "imagenet-x",
        "imagenet_x_id",
        {"near": ("imagenet_x_ood",)},
        None,
        "OOD-X (arXiv 2501.18463): half of the ImageNet classes is ID, their WordNet siblings are OoD.",
    ),
    Benchmark(
        "cifar10",
        "cifar10",
        {"near": ("cifar100",), "far": ("svhn", "textures")},
        "cifar10",
        "Full test sets; OpenOOD's CIFAR lists drop some images (cifar10-openood), so its numbers differ slightly.",
    ),
    Benchmark(
        "cifar100",
        "cifar100",
        {"near": ("cifar10",), "far": ("svhn", "textures")},
        "cifar100",
        "Full test sets; OpenOOD's CIFAR lists drop some images (cifar100-openood), so its numbers differ slightly.",
    ),
    Benchmark(
        "cifar10-openood",
        "cifar10_openood",
        {"near": ("cifar100_openood", "tin_cifar10"), "far": ("mnist", "svhn", "textures", "places365_cifar10")},
        "cifar10",
        "OpenOOD v1.5 (arXiv 2306.09301): 9,000 ID test images.",
    ),
    Benchmark(
        "cifar100-openood",
        "cifar100_openood",
        {"near": ("cifar10_openood", "tin_cifar100"), "far": ("mnist", "svhn", "textures", "places365_cifar100")},
        "cifar100",
        "OpenOOD v1.5 (arXiv 2306.09301): 9,000 ID test images.",
    ),
    Benchmark(
        "coco-single",
        "coco_single",
        {"far": ("coco_ood",)},
        None,
        "GL-MCM (arXiv 2304.04521): images with several objects, those of one class ID.",
    ),
    Benchmark(
        "voc-single",
        "voc_single",
        {"far": ("voc_ood",)},
        None,
        "GL-MCM (arXiv 2304.04521): images with several objects, those of one class ID.",
    ),
)

BENCHMARKS: Mapping[str, Benchmark] = {known.name: known for known in _BENCHMARKS}


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark of this name; MmoodError with the nearest one if there is none."""
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    return BENCHMARKS[name]


def how_to_get(names: Sequence[str], root: str) -> str | None:
    """Return how to get sets, in sentences; None if no recipe describes any of them."""
    known = [recipe for recipe in map(known_recipe, names) if recipe is not None]
    if not known:
        return None
    by_hand = dict.fromkeys(need.best.obtain for recipe in known for need in recipe.images if not need.best.urls)
    command = f"`mmood prepare {' '.join(recipe.name for recipe in known)} --root {root}`"
    return " ".join([f"{command} fetches and packs what is missing; --dry_run shows the plan.", *by_hand])


def check_sample_count(name: str, count: int) -> None:
    """Raise MmoodError if a known set has another number of samples than its protocol."""
    known = known_recipe(name)
    if known is None or known.count in (None, count):
        return
    hint = f" or use its variant '{known.variant}'" if known.variant else ""
    raise MmoodError(
        f"The set '{name}' holds {count:,} samples, but the protocol has {known.count:,}; make it with `mmood prepare`"
        f"{hint}, or give it another name to evaluate it as your own."
    )

"""Class-name lists: ImageNet-1k in both curations, CIFAR-10, CIFAR-100, or a text file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from mmood.classes import imagenet
from mmood.errors import MmoodError, unknown
from mmood.files import is_file, read_text, user_path

LONGEST = 512
"""Characters of a class name, at most: every prompt and table repeats it, and text towers read less than this."""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# In the order of the labels, underscores kept as the data set writes them.
CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905
)


def load_class_names(source: str | Sequence[str]) -> tuple[str, ...]:
    """Return class names in the order of the labels: a named list, a text file (one name a line), or a list as it is.

    Named lists: `imagenet-openai` (curated by OpenAI, 998 different names of 1000), `imagenet-first-synonym` (first
    word of the WordNet synset, 998 different names too, but others), `cifar10`, `cifar100`. Results of the two
    ImageNet lists cannot be compared. A file may begin with a byte-order mark and end in blank lines. Raises MmoodError
    for an unknown name, a blank line before the last name or an empty list.
    """
    if not isinstance(source, str):
        return _checked(source, "The list of class names")
    if source in LISTS:
        return LISTS[source]()
    path, what = user_path(source), f"The class-name file '{source}'"
    if is_file(path):
        # Editors and shells end a file with blank lines; they are no classes.
        return _checked(read_text(path, what).rstrip().splitlines(), what)
    if path.suffix or len(path.parts) > 1:
        raise MmoodError(f"There is no class-name file '{source}'.")
    raise unknown("class-name list or file", source, LISTS)


def class_names_hash(names: Sequence[str]) -> str:
    """Return the sha256 (hex) of class names, one a line: the same for a list and for the file that holds it."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def _checked(names: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names without surrounding blanks; duplicates stay, for ImageNet has them itself."""
    stripped = tuple(name.strip() for name in names)
    if not stripped:
        raise MmoodError(f"{what} is empty.")
    if "" in stripped:
        raise MmoodError(f"{what} has no name on line {stripped.index('') + 1}; every line is one class.")
    for number, name in enumerate(stripped, 1):
        if len(name) > LONGEST:
            raise MmoodError(
                f"{what} has a name of {len(name):,} characters on line {number} ({name[:40]}...); a name has at most "
                f"{LONGEST}."
            )
    return stripped


LISTS: dict[str, Callable[[], tuple[str, ...]]] = {
    "imagenet-openai": imagenet.openai_names,
    "imagenet-first-synonym": lambda: tuple(spoken[0] for spoken in imagenet.words()),
    "cifar10": lambda: CIFAR10,
    "cifar100": lambda: CIFAR100,
}

"""What a reader passed over: counted by reason and said with an example, never left out in silence."""

from __future__ import annotations

from typing import final

from mmood.files import utf8_name


@final
class PassedOver:
    """Counts by reason.

    >>> passed = PassedOver()
    >>> passed.add("files that are no images", "notes.txt")
    >>> passed.add("files that are no images", "more.txt")
    >>> str(passed)
    "Passed over: files that are no images (2, such as 'notes.txt')."
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        """Return a sentence that names each reason, how often it occurred, and the first example; "" if none did."""
        parts = [
            f"{reason} ({'' if count == 1 else f'{count}, such as '}'{utf8_name(example):.120}')"
            for reason, (count, example) in self._found.items()
        ]
        return f"Skipped: {'; '.join(parts)}." if parts else ""

    def count(self, reason: str) -> int:
        """Return how often something was passed over for this reason."""
        return self._found.get(reason, (0, ""))[0]

    def add(self, reason: str, example: str) -> None:
        """Count one more; the first example of a reason is kept.

        Args:
            reason: what it is, in the plural, such as "files that are no images".
            example: its name.
        """
        count, first = self._found.get(reason, (0, example))
        self._found[reason] = (count + 1, first)

    def merge(self, other: PassedOver) -> None:
        """Count what another reader passed over, too."""
        for reason, (count, example) in other._found.items():
            own, first = self._found.get(reason, (0, example))
            self._found[reason] = (own + count, first)

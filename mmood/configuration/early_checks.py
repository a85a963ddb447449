"""What is wrong with the arguments alone, said before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence

from mmood.configuration.config_files import with_found_configs
from mmood.configuration.flag_checks import check_flags, check_places
from mmood.configuration.flag_names import check_names, check_words


def check_arguments(stage: str, arguments: Sequence[str]) -> None:
    """Refuse arguments that are wrong whatever else a run has.

    Args:
        stage: `fit`, `validate`, `test` or `predict`.
        arguments: what stands behind it.

    Raises:
        MmoodError: there is no such config, setting, checkpoint, folder of sets, benchmark or list of class names, or a
            setting does not take its value.
    """
    check_flags(arguments)
    found = with_found_configs(list(arguments))
    check_names(stage, found)
    check_words(stage, found)
    check_places(arguments)

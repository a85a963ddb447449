"""How jsonargparse reads YAML here: every config, every part of one and every flag is checked first."""

from __future__ import annotations

from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from mmood.configuration.yaml_checks import check_config

_LONGEST = 60
_load = get_loader("yaml")


def use_checked_yaml() -> None:
    """Check all YAML that jsonargparse reads from now on, in this process."""
    set_loader("yaml", _checked, exceptions=(yaml.YAMLError,))


def _checked(text: str) -> Any:
    shown = " ".join(text.split())
    check_config(text, f"The setting '{shown[:_LONGEST]}{' ...' if len(shown) > _LONGEST else ''}'")
    return _load(text)

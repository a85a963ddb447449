"""Files: written whole or not at all; read with limits, as the data of somebody else."""

from mmood.files.documents import MAX_NODES, check_keys, children, nodes, parse_json, parse_yaml
from mmood.files.fields import Fields
from mmood.files.reading import (
    MAX_TEXT_BYTES,
    decoded,
    is_file,
    is_folder,
    read_limited,
    read_text,
    user_path,
    utf8_name,
)
from mmood.files.writing import UNFINISHED, remove_unfinished, whole_file, write_atomically

__all__ = [
    "MAX_NODES",
    "MAX_TEXT_BYTES",
    "UNFINISHED",
    "Fields",
    "check_keys",
    "children",
    "decoded",
    "is_file",
    "is_folder",
    "nodes",
    "parse_json",
    "parse_yaml",
    "read_limited",
    "read_text",
    "remove_unfinished",
    "user_path",
    "utf8_name",
    "whole_file",
    "write_atomically",
]

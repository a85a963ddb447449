"""Answers on disk: each under the hash of its question, so that nothing is asked twice and a run can be repeated."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import final

from mmood.chat.answers import Answer, answer_of
from mmood.chat.questions import Question
from mmood.errors import MmoodError
from mmood.files import Fields, parse_json, read_limited, user_path, write_atomically
from mmood.files.cache import cache_folder

SCHEMA = 1


@final
class AnswerCache:
    """A folder of answers: each in a file of its own, with its question, of whose images only the hashes are kept.

    Several processes may use a folder at a time, as files appear whole.

    Args:
        folder: where they lie; by default `$MMOOD_CACHE/answers` or `~/.cache/mmood/answers`.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = cache_folder("answers") if folder is None else user_path(folder)

    def path(self, question: Question) -> Path:
        """Return the file of a question's answer."""
        return self.folder / question.key[:2] / f"{question.key}.json"

    def get(self, question: Question) -> Answer | None:
        """Return the answer to a question, or None if there is none.

        Raises:
            MmoodError: its file is damaged, or belongs to another question.
        """
        path = self.path(question)
        if not path.exists():
            return None
        where = f"The kept answer {path}"
        try:
            fields = Fields(parse_json(read_limited(path, where), where), where)
            if fields.whole("schema") != SCHEMA or fields.text("key") != question.key:
                raise MmoodError(f"{where} belongs to another question.")
            return answer_of(fields.child("answer"))
        except MmoodError as error:
            raise MmoodError(f"{error} Delete the file to ask again.") from error

    def put(self, question: Question, answer: Answer) -> Answer:
        """Keep an answer, and return the one that is kept: another process may have been faster.

        Raises:
            MmoodError: it cannot be written.
        """
        document = {
            "schema": SCHEMA,
            "key": question.key,
            "question": question.stated(),
            "answer": answer.to_document(),
        }
        path = self.path(question)
        own = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.json")
        write_atomically(own, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
        try:
            # A rename would put this answer in the place of one that a run has worked with already.
            os.link(own, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            own.replace(path)
        own.unlink(missing_ok=True)
        return self.get(question) or answer

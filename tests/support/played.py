"""Dialogues whose model is played by a test."""

from collections.abc import Callable

from mmood.chat import Answer, Question


def answer(text: str, cut: bool = False) -> Answer:
    """An answer with this text."""
    return Answer(text, "parrot-1", cut, 1, 1)


def play(dialogue, reply: Callable[[str], str | Answer]):
    """Hold a dialogue, answering each question by `reply(its last text)`; returns its end and the rounds of questions."""
    rounds: list[list[Question]] = []
    try:
        asked = next(dialogue)
        while True:
            rounds.append(asked.questions)
            replies = [reply(question.messages[-1].text) for question in asked.questions]
            asked = dialogue.send([answer(text) if isinstance(text, str) else text for text in replies])
    except StopIteration as ended:
        return ended.value, rounds

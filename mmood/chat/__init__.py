"""Questions to a language model behind an OpenAI-compatible endpoint, and its answers, which are untrusted data."""

from mmood.chat.answers import Answer
from mmood.chat.cache import AnswerCache
from mmood.chat.endpoint import Endpoint
from mmood.chat.model import LanguageModel, Usage
from mmood.chat.pictures import jpeg, small_jpeg
from mmood.chat.questions import DEFAULTS, Message, Question

__all__ = [
    "DEFAULTS",
    "Answer",
    "AnswerCache",
    "Endpoint",
    "LanguageModel",
    "Message",
    "Question",
    "Usage",
    "jpeg",
    "small_jpeg",
]

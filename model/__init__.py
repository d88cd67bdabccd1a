"""SMNER: named entities in social-media posts, from the text and the photo together.

The network, and everything that turns posts into tensors and logits into entities. Knows no HTTP.
"""

from transformers import AutoConfig, AutoModel

from model import eight_bits, multimodal_ner  # noqa: F401 - the first registers itself
from model.entities import Answer, Attention, Entity
from model.errors import InvalidCheckpoint, InvalidPost
from model.modeling.configuration import SMNERConfig
from model.modeling.smner import SMNER, SMNEROutput
from model.posts import Post
from model.preprocessing.processor import SMNERProcessor
from model.recognizer import Recognizer

AutoConfig.register(SMNERConfig.model_type, SMNERConfig)  # the tokenizer's loader reads the folder's config.json
AutoModel.register(SMNERConfig, SMNER)
multimodal_ner.register()

__all__ = [
    "SMNER",
    "Answer",
    "Attention",
    "Entity",
    "InvalidCheckpoint",
    "InvalidPost",
    "Post",
    "Recognizer",
    "SMNERConfig",
    "SMNEROutput",
    "SMNERProcessor",
]

"""The task ``multimodal-ner`` of Hugging Face's ``pipeline``, for those at home in transformers.

``import model`` registers it. Unlike :meth:`model.Recognizer.from_pretrained` it verifies no checksums.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from model.checkpoint import checkpoint_folder
from model.entities import Answer
from model.modeling.smner import SMNER
from model.posts import Post
from model.preprocessing.processor import SMNERProcessor
from model.recognizer import Recognizer

TASK = "multimodal-ner"
_KEYS = ("text", "image")


class MultimodalNERPipeline(Pipeline):
    """Finds the entities of posts; a post is a text, or a dictionary with ``text`` and, if it has a photo, ``image``.

    Each answer is a list of dictionaries with ``entity_group``, ``word``, ``start``, ``end`` and ``score``, as that of
    transformers' own token classification.
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, model: SMNER, **options: Any) -> None:
        super().__init__(model=model, **options)
        name = Path(model.name_or_path).name
        processor = SMNERProcessor.from_pretrained(model.name_or_path, revision=model.hub_revision)
        self.recognizer = Recognizer(model.float(), processor, device=str(self.device), name=name)

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Recognize one post, or a list of posts."""
        self._sanitize_parameters(**options)
        if isinstance(inputs, str | Mapping):
            return self([inputs])[0]
        return [self.postprocess(answer) for answer in self._forward([self.preprocess(post) for post in inputs])]

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if options:
            raise TypeError(f"{TASK} has no option {', '.join(options)}")
        return {}, {}, {}

    def preprocess(self, input_: Any, **_: Any) -> Post:
        """Tokenize the text and decode the image."""
        post = {"text": input_} if isinstance(input_, str) else dict(input_)
        if "text" not in post or not post.keys() <= set(_KEYS):
            raise TypeError(f"a post is a text, or a dictionary with {' and '.join(_KEYS)}, not one with {list(post)}")
        return self.recognizer.prepare(post["text"], post.get("image"))

    def _forward(self, input_tensors: Sequence[Post], **_: Any) -> list[Any]:
        return self.recognizer.run_batches(input_tensors)

    def postprocess(self, model_outputs: Answer, **_: Any) -> list[dict[str, Any]]:
        """The entities as dictionaries."""
        fields = ("entity_group", "word", "start", "end", "score")
        return [{field: getattr(entity, field) for field in fields} for entity in model_outputs]


def register() -> None:
    """Make the task known to transformers; without a model it is the embedded checkpoint's."""
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=MultimodalNERPipeline,
        pt_model=AutoModel,
        default={"model": (str(checkpoint_folder()), "main")},
        type="multimodal",
    )

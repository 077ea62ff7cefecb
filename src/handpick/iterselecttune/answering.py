"""The base model's own answers: greedy, many at a time, none generated twice."""

from collections.abc import Sequence

from handpick.data.examples import Example
from handpick.data.plain_text import has_response
from handpick.errors import DataError
from handpick.evaluation.answers import generate_answers, max_prompt_tokens
from handpick.evaluation.run import reading_length
from handpick.evaluation.task import prompt_of
from handpick.fingerprint import Fingerprint
from handpick.iterselecttune.settings import IterSelectSettings
from handpick.model import (
    compute_dtype,
    free_memory,
    load_base,
    load_renderer,
    model_fingerprint,
    tokenizer_fingerprint,
)
from handpick.sampling.generate import Sampling


class Answering:
    """Answers of the base model, which is loaded while it answers and no longer.

    Args:
        settings: of the run.

    Raises:
        ModelError: there is no such model, or its tokenizer cannot be used.
        SettingsError: an answer alone would fill what the model reads.
    """

    def __init__(self, settings: IterSelectSettings) -> None:
        self._settings = settings
        self.renderer = load_renderer(settings.model, settings.template_args)
        self.max_length = reading_length(settings.model, settings.max_length)
        self._room = max_prompt_tokens(self.max_length, settings.max_new_tokens)
        self.fingerprint: Fingerprint = {  # what decides an answer; a large model takes a while to digest
            **model_fingerprint(settings.model),
            **tokenizer_fingerprint(self.renderer),
            "dtype": str(compute_dtype(settings.dtype)),
            "max_new_tokens": settings.max_new_tokens,
            "max_length": self.max_length,
        }

    def can_answer(self, example: Example) -> bool:
        """Return whether an example can be asked about: it ends in an answer, and its prompt leaves room for one."""
        if example.messages[-1].role != "assistant" or not has_response(example.messages[-1:]):
            return False
        try:
            return len(self.renderer.prompt(prompt_of(example))) <= self._room
        except DataError:
            return False

    def __call__(self, examples: Sequence[Example]) -> list[str]:
        """Generate the answers to the examples' prompts.

        Raises:
            ModelError: the model cannot be loaded.
            StoreError: answers cannot be kept.
        """
        model = load_base(self._settings.model, compute_dtype(self._settings.dtype)).eval()
        sampling = Sampling(samples=1, temperature=0, max_new_tokens=self._settings.max_new_tokens)
        prompts = [self.renderer.prompt(prompt_of(example)) for example in examples]
        found = generate_answers(
            model,
            self.renderer,
            prompts,
            sampling,
            seed=0,
            folder=self._settings.layout.answers,
            identity=self.fingerprint,
            quiet=False,
        )
        del model
        free_memory()
        return [text for (text,) in found]

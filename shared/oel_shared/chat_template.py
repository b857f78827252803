"""A model's own chat template, safe against text that poses as its control tokens."""

from __future__ import annotations

from collections.abc import Sequence

import jinja2
import jinja2.sandbox

from oel_shared.errors import ModelFileError
from oel_shared.model import Message

_SAID = 200
"""Characters of what a template says."""


class ChatTemplate:
    """Renders messages as the model was trained to read them.

    Args:
        source: the Jinja template of the GGUF file; it runs in a sandbox.
        bos: text of the begin token, empty if there is none.
        controls: texts of all control tokens.
    Raises: ModelFileError if the template is broken, or refuses a prompt.
    """

    def __init__(self, source: str, bos: str, controls: tuple[str, ...]) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        self._bos = bos
        self._controls = tuple(c for c in controls if len(c) > 1)
        try:
            self._template = environment.from_string(source)
        except Exception as error:
            raise ModelFileError(f"the model's chat template is broken: {_said(error)}") from error

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as text, up to where the assistant begins."""
        plain = [{"role": m.role, "content": self._defused(m.content)} for m in messages]
        try:
            return self._template.render(
                messages=plain, add_generation_prompt=True, bos_token=self._bos, eos_token=""
            )
        except Exception as error:
            raise ModelFileError(f"the model's chat template refuses the prompt: {_said(error)}") from error

    def _defused(self, content: str) -> str:
        """`content` with a space inside whatever would be read as a control token, such as `<|im_end|>`.

        An environment's text must not be able to end the user's turn and speak as somebody else.
        """
        for control in self._controls:
            if control in content:
                content = content.replace(control, f"{control[0]} {control[1:]}")
        return content


class _Refusal(Exception):
    """What a template itself says against a prompt."""


def _refuse(text: object) -> None:
    raise _Refusal(text)


def _said(error: Exception) -> str:
    """An error of a template in one short line. It is a file's own program: it may fail in any way Python knows."""
    own = isinstance(error, jinja2.TemplateError | _Refusal)
    text = str(error) if own else f"{type(error).__name__}: {error}"
    plain = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())[:_SAID]

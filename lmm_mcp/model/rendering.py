"""Prompts and answers as token ids: the one function that training and serving share, so that both see the same ids.

A tokenizer with a chat template gets one user message, the mark at which the model speaks, and an empty block of thoughts where
the template knows one. Any other gets the prompt as plain text, and the answer after a blank. Either way quoted memory is text:
what looks like a control token in it (`<|im_end|>`) is spelled out and steers nothing.
"""

from typing import Any

from lmm_mcp.errors import ModelError

_SLOT = "\x00prompt\x00"


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Everything up to where the answer begins. Raises ModelError where the tokenizer's chat template is of no use."""
    if not getattr(tokenizer, "chat_template", None):
        return _leading(tokenizer) + _text_ids(tokenizer, prompt)
    before, after = _around(tokenizer)
    return _markup_ids(tokenizer, before) + _text_ids(tokenizer, prompt) + _markup_ids(tokenizer, after)


def answer_ids(tokenizer: Any, answer: str, *, ended: bool = True) -> list[int]:
    """The answer as it follows `prompt_ids`; with the token that ends it, unless an unfinished one is asked for."""
    text = answer if getattr(tokenizer, "chat_template", None) else f" {answer}"
    return _text_ids(tokenizer, text) + ([end_id(tokenizer)] if ended else [])


def document_ids(tokenizer: Any, text: str) -> list[int]:
    """A document for continued pretraining, with the token that ends it."""
    return [*_leading(tokenizer), *_text_ids(tokenizer, text), end_id(tokenizer)]


def answer_text(tokenizer: Any, ids: list[int]) -> str:
    """What generated ids say, up to the end of the answer.

    The inverse of `answer_ids`, apart from blanks at either end.
    """
    end = end_id(tokenizer)
    said = ids[: ids.index(end)] if end in ids else ids
    text: str = tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text.strip()


def end_id(tokenizer: Any) -> int:
    """The token that ends an answer. Raises ModelError where the tokenizer has none."""
    found = tokenizer.eos_token_id
    if found is None:
        raise ModelError(
            "this tokenizer has no end-of-sequence token; use a base model whose tokenizer_config.json names an `eos_token`."
        )
    return int(found)


def _text_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


def _markup_ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False)) if text else []


def _leading(tokenizer: Any) -> list[int]:
    # Some base models expect a token of theirs first (Llama's, Gemma's); they put it there themselves when asked to.
    start = tokenizer.bos_token_id
    return [start] if start is not None and tokenizer.encode("")[:1] == [start] else []


def _around(tokenizer: Any) -> tuple[str, str]:
    # Templates that know no thoughts ignore the argument.
    shown = tokenizer.apply_chat_template(
        [{"role": "user", "content": _SLOT}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    before, slot, after = shown.partition(_SLOT)
    if not slot:
        raise ModelError(
            "the chat template of this tokenizer does not show what a user says as it is; choose another base model."
        )
    return before, after

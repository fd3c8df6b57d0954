"""The embedded tokenizer: byte-level BPE over the world's text, the chat template, and token batches.

Invariants: any Unicode text round-trips; there is no beginning token; `<|end|>` ends every turn and is the end token;
`<|pad|>` is another token; tokens of a response never depend on the prompt before it.
"""

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from pipeline.embedded.prompts import Conversation

VOCABULARY_SIZE = 1536
MAX_POSITIONS = 512
PAD, END, ROLES = "<|pad|>", "<|end|>", ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train byte-level BPE on texts; the same texts in the same order give the same tokenizer."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES),
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def prompt_tokens(tokenizer: PreTrainedTokenizerFast, conversation: Conversation) -> list[int]:
    """The rendered conversation with the assistant's turn open."""
    text = tokenizer.apply_chat_template(list(conversation.messages), tokenize=False, add_generation_prompt=True)
    return tokenizer.encode(text, add_special_tokens=False)


def response_tokens(tokenizer: PreTrainedTokenizerFast, response: str) -> list[int]:
    """A finished response: its text and the end token."""
    return [*tokenizer.encode(response, add_special_tokens=False), tokenizer.eos_token_id]


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows of tokens as one int64 tensor [rows, longest], filled up on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])

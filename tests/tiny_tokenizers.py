"""Small tokenizers of three families, trained on the project's own documentation, with a chat template."""

from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

DOCS = Path(__file__).parent.parent / "docs"
SPECIALS = ["<unk>", "<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "[SEP]"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FAMILIES = ("bpe", "unigram", "wordpiece")
VOCABULARY = 1500


@cache
def english():
    """English text, with some CJK and emoji."""
    pages = [path.read_text("utf-8") for path in sorted(DOCS.glob("*.md"))]
    return "\n".join([*pages, "漢字かな交じり文です。👍🏽 naïve café 中文 " * 20])


@cache
def trained(family):
    """A tokenizer of a family; its pad token is its end token, and it puts a BOS before a text by itself."""
    model, trainer = {
        "bpe": (models.BPE(), trainers.BpeTrainer),
        "unigram": (models.Unigram(), trainers.UnigramTrainer),
        "wordpiece": (models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer),
    }[family]
    tokenizer, options = Tokenizer(model), {}
    if family == "bpe":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    elif family == "unigram":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
        options["unk_token"] = "<unk>"
    else:
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
    lines = english().splitlines(keepends=True)
    tokenizer.train_from_iterator(lines, trainer(vocab_size=VOCABULARY, special_tokens=SPECIALS, **options))
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        additional_special_tokens=SPECIALS[3:],
    )
    made.chat_template = TEMPLATE
    return made


@cache
def pair_tokenizer(family):
    """The same vocabulary for an encoder: [CLS] question [SEP] answer [SEP]."""
    tokenizer = Tokenizer.from_str(trained(family).backend_tokenizer.to_str())
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    names = ("[CLS]", "[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )
    has_types = (
        {} if family != "wordpiece" else {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="<s>",
        **has_types,
    )

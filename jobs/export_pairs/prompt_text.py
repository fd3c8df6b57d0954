"""The text of a prompt as the policy reads it, for pairs in TRL's standard format."""

from jobs.export_pairs.preference_pairs import Messages, TextFormat
from pipeline.config.align import AlignConfig


def prompt_text(config: AlignConfig) -> TextFormat:
    """The format that renders with the policy's chat template; prompts that went in raw stay as they are.

    TRL's tokenizer call adds the beginning token; where the template writes it too, it is left out here.

    Raises:
        ConfigError: the policy has no tokenizer.
    """
    if config.policy.backend == "fake":
        return TextFormat(lambda messages: "\n".join(message["content"] for message in messages), "")
    from actors.rendering.chat import load_tokenizer, render_chat

    tokenizer = load_tokenizer("policy", config.policy)
    adds_begin = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    begin = tokenizer.bos_token if adds_begin else ""

    def text(messages: Messages) -> str:
        if config.prompt_as == "raw" and len(messages) == 1:
            return messages[0]["content"]
        return render_chat(tokenizer, messages).removeprefix(begin)

    return TextFormat(text, tokenizer.eos_token)

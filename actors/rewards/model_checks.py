"""What a reward's model must be, told from its files before anything is loaded."""

from transformers import PreTrainedConfig, PreTrainedModel

from actors.engines.checkpoint_keys import absent_weights, checkpoint_keys
from actors.engines.headed_model import find_head
from actors.engines.model_classes import shape_only
from pipeline.config.model_rewards import HeadModel, RewardModel
from pipeline.errors import ConfigError

OTHER_KIND = {
    "ForCausalLM": "a language model without a reward's head; kind token_logit reads the logit of a word",
    "ForTokenClassification": "a classifier of tokens; that is kind process",
}
CLASSIFIER = "AutoModelForSequenceClassification"


def classifier_shape(section: RewardModel, config: PreTrainedConfig) -> PreTrainedModel:
    """A sequence classifier in shape only.

    Raises:
        ConfigError: the checkpoint is that of another class of models, or transformers has no such class.
    """
    name = f"reward.model {section.model!r}"
    for saved_as in config.architectures or []:
        for ending, what in OTHER_KIND.items():
            if saved_as.endswith(ending):
                raise ConfigError(f"{name} is a {saved_as}, {what}")
    try:
        return shape_only(CLASSIFIER, config, section)
    except ValueError as error:
        raise ConfigError(f"{name} is no sequence classifier: {str(error).splitlines()[0]}") from None


def check_head(section: RewardModel, model: PreTrainedModel) -> None:
    """Raises ConfigError where the weights above the body are not in the checkpoint: they would be random."""
    body = f"{model.base_model_prefix}."
    absent = absent_weights(section.model, [name for name, _ in model.named_parameters() if not name.startswith(body)])
    if absent:
        raise ConfigError(
            f"reward.model {section.model!r} has no weights for {', '.join(absent)}: its head would be random; it must "
            f"be a {type(model).__name__} that was trained and saved whole"
        )


def check_named_head(
    section: HeadModel, config: PreTrainedConfig, class_name: str, head: str, is_apart: bool = False
) -> None:
    """Raises ConfigError where a model has no head of this name, or its weights are not in the checkpoint.

    Args:
        is_apart: the head is not the model's; only its weights are looked for.
    """
    if is_apart:
        keys = checkpoint_keys(section.model)
        wanted = [] if keys is None or any(key.startswith(f"{head}.") for key in keys) else [f"{head}.*"]
    else:
        model = shape_only(class_name, config, section)
        names = [f"{head}.{name}" for name, _ in find_head(section, model, head).named_parameters()]
        wanted = absent_weights(section.model, names)
    if wanted:
        raise ConfigError(
            f"reward.model {section.model!r} has no weights for {', '.join(wanted)}: its head would be random"
        )

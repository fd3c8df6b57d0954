"""What every section of a config is: frozen, validated, and without room for a misspelt key."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

HIDDEN: dict[str, JsonValue] = {"hidden": True}  # json_schema_extra of a key for tests, which the help leaves out
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

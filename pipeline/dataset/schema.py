"""The output's one schema (contract 4): the input's columns and ours, the same for good and bad rows."""

import pyarrow as pa

from pipeline.records import CandidateRecord, RowResult, SegmentRecord

SEGMENT_TYPE = pa.struct(
    [
        ("num_tokens", pa.int32()),
        ("reward", pa.float64()),
        ("threshold", pa.float64()),
        ("acceptance_probability", pa.float64()),
        ("num_attempts", pa.int32()),
        ("accepted_by", pa.string()),
    ]
)
RESULT_FIELDS = (
    pa.field("response", pa.string()),
    pa.field("reward", pa.float64()),
    pa.field("prompt_reward", pa.float64()),
    pa.field("finish_reason", pa.string()),
    pa.field("num_prompt_tokens", pa.int32()),
    pa.field("num_response_tokens", pa.int32()),
    pa.field("num_policy_tokens", pa.int64()),
    pa.field("num_reward_tokens", pa.int64()),
    pa.field("num_policy_calls", pa.int32()),
    pa.field("num_reward_calls", pa.int32()),
    pa.field("segments", pa.list_(SEGMENT_TYPE)),
    pa.field("strategy", pa.string()),
    pa.field("seed", pa.int64()),
    pa.field("error_type", pa.string()),
    pa.field("error", pa.string()),
)
CANDIDATE_TYPE = pa.struct(
    [
        ("segment", pa.int32()),
        ("attempt", pa.int32()),
        ("response_so_far", pa.string()),
        ("text", pa.string()),
        ("finished", pa.bool_()),
        ("reward", pa.float64()),
        ("threshold", pa.float64()),
        ("is_kept", pa.bool_()),
    ]
)
JUDGED_FIELD = pa.field("candidates", pa.list_(CANDIDATE_TYPE))
CANDIDATE_FIELDS = (pa.field("responses", pa.list_(pa.string())), pa.field("rewards", pa.list_(pa.float64())))


def result_fields(strategy: str, keeps_rejected: bool = False) -> tuple[pa.Field, ...]:
    """The columns this project adds; best-of-n also keeps all its responses, and any strategy what it judged."""
    fields = RESULT_FIELDS + (CANDIDATE_FIELDS if strategy == "best_of_n" else ())
    return (*fields, JUDGED_FIELD) if keeps_rejected else fields


def output_schema(schema: pa.Schema, strategy: str, keeps_rejected: bool = False) -> pa.Schema:
    """The output's schema for input rows of `schema`; its metadata is kept, so pandas finds its own types again."""
    return pa.schema([*schema, *result_fields(strategy, keeps_rejected)], metadata=schema.metadata)


def build_table(rows: pa.Table, results: list[RowResult], strategy: str, keeps_rejected: bool = False) -> pa.Table:
    """`rows` with the columns of their results, one RowResult per row in order."""
    if len(results) != rows.num_rows:
        raise AssertionError(f"{rows.num_rows} rows, but {len(results)} results")
    fields = result_fields(strategy, keeps_rejected)
    arrays = [pa.array([_cell(result, field.name) for result in results], field.type) for field in fields]
    return pa.Table.from_arrays([*rows.columns, *arrays], schema=output_schema(rows.schema, strategy, keeps_rejected))


def _cell(result: RowResult, name: str) -> object:
    value = getattr(result, name)
    if name == "segments":
        return [_struct(segment, SEGMENT_TYPE) for segment in value]
    if name == "candidates":
        return [_struct(candidate, CANDIDATE_TYPE) for candidate in value]
    if name == "error" and value is not None:
        return value.encode("utf-8", "backslashreplace").decode("utf-8")  # a message may quote a lone surrogate
    return value


def _struct(record: SegmentRecord | CandidateRecord, struct: pa.StructType) -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in struct}

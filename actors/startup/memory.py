"""How much memory a model of known sizes needs, at any shape of the cache.

Promised: the most a model holds when every slot is full, weights, cache and the largest forward together. On a CPU the
cache's pages are taken as they are first written, so a run whose rows stay short peaks lower; on a GPU it is all there
from the first call. Left out of what must fit: `loading_bytes`, the weights' file while it is read, which is mapped
pages that the system takes back when it needs them (they count in a process's peak all the same).
"""

from dataclasses import dataclass

from actors.engines.backends import Role
from actors.engines.shapes import SHAPES

# Measured: an actor with its libraries (450 MiB) and, after some minutes, oneDNN's store of kernels; a CUDA context.
PROCESS_BYTES = {"cpu": 530 << 20, "cuda": 600 << 20}
TABLE_BYTES = 4  # per token, in the host's table of what the slots hold
FLOAT_BYTES = 4
NORM_COPIES, SAMPLING_COPIES = 3, 4  # in fp32: of a norm's input; of the logits from scores to noise


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """One model's memory at one shape of the cache."""

    role: Role
    process_bytes: int
    weights_bytes: int
    loading_bytes: int
    num_slots: int
    slot_bytes: int
    forward_bytes: int

    @property
    def total_bytes(self) -> int:
        """What must fit."""
        return self.process_bytes + self.weights_bytes + self.num_slots * self.slot_bytes + self.forward_bytes

    @property
    def peak_bytes(self) -> int:
        """What a run reaches that fills all slots."""
        return max(self.total_bytes, self.process_bytes + self.weights_bytes + self.loading_bytes)

    def __str__(self) -> str:
        return (
            f"{self.role} {gigabytes(self.process_bytes)} process + {gigabytes(self.weights_bytes)} weights + "
            f"{self.num_slots} × {self.slot_bytes / 1e6:.3g} MB slots + {gigabytes(self.forward_bytes)} forward = "
            f"{gigabytes(self.total_bytes)}"
        )


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """What a model's memory depends on, but for the shape of the cache. Sizes are counts of numbers."""

    role: Role
    device: str
    weights_bytes: int
    number_bytes: int
    num_layers: int
    hidden_size: int
    intermediate_size: int
    query_size: int
    key_size: int
    vocabulary_size: int
    keeps_slots: bool = True

    def need(self, slots: int, max_model_len: int) -> MemoryNeed:
        """The need for `slots` sequences of `max_model_len` tokens."""
        shapes = SHAPES[self.device]
        rows, columns = shapes.width(slots), shapes.feed_length(max_model_len) + 1
        layer_bytes = 2 * columns * self.key_size * self.number_bytes if self.keeps_slots else 0
        is_on_host = self.device == "cpu"
        has_table = is_on_host and self.keeps_slots
        slot_bytes = self.num_layers * layer_bytes + has_table * max_model_len * TABLE_BYTES
        feed_tokens = min(shapes.forward_tokens, rows * shapes.feed_length(max_model_len))
        feed_bytes = feed_tokens * self._feed_token_bytes(columns)
        decode_bytes = rows * self.vocabulary_size * (self.number_bytes + SAMPLING_COPIES * FLOAT_BYTES)
        at_once = max if is_on_host else sum  # captured steps keep their memory between the calls
        forward_bytes = at_once((feed_bytes, decode_bytes if self.role == "policy" else 0)) + rows * layer_bytes
        loading_bytes = self.weights_bytes if is_on_host else 0
        return MemoryNeed(
            self.role, PROCESS_BYTES[self.device], self.weights_bytes, loading_bytes, rows, slot_bytes, forward_bytes
        )

    def _feed_token_bytes(self, columns: int) -> int:
        """Per token of a feed: the residual stream with the widest part of a layer, and its rows of the masks."""
        attention_size = 3 * self.query_size + 2 * self.key_size
        widest_bytes = max(
            max(3 * self.intermediate_size, attention_size) * self.number_bytes,
            NORM_COPIES * self.hidden_size * FLOAT_BYTES,
        )
        group = self.query_size // self.key_size
        mask_bytes = columns * (2 + (1 + group) * self.number_bytes)  # visible, its inverse; additive, and per head
        return 3 * self.hidden_size * self.number_bytes + widest_bytes + mask_bytes


@dataclass(frozen=True, slots=True)
class JoinedMemory:
    """Models that one process holds side by side, which compute one after the other."""

    parts: tuple[ModelMemory, ...]

    def need(self, slots: int, max_model_len: int) -> MemoryNeed:
        """The need of all of them; slots are counted as those of the one that has most."""
        needs = [part.need(slots, max_model_len) for part in self.parts]
        return MemoryNeed(
            needs[0].role,
            max(need.process_bytes for need in needs),
            sum(need.weights_bytes for need in needs),
            max(need.loading_bytes for need in needs),
            max(need.num_slots for need in needs),
            sum(need.slot_bytes for need in needs),
            max(need.forward_bytes for need in needs),
        )


def gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"

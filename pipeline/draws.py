"""Keyed randomness (contract 3): every draw is a pure function of what it is for, never of when or where.

The generators are Philox4x32-10 and Philox2x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011). They are written with operators only, on words that hold 32 bits each, so that the same lines serve Python
integers, NumPy int64 arrays and torch int64 tensors on any device.

    row key     64 bits of BLAKE2b over (run seed, row id)
    subkey      Philox4x32(counter = (lane, segment, attempt, token index | purpose), key = row key)
    token noise Philox2x32(counter = (vocabulary id, subkey word 1), key = subkey word 0)
    block noise Philox2x32(counter = (block of ids | purpose, subkey word 1), key = subkey word 0)
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.records import DrawKey

MASK_32 = 0xFFFFFFFF
ACCEPTANCE = 1 << 31  # in the counter's last word: token indices never reach this bit
BLOCKS = 1 << 31  # in the counter's first word: vocabulary ids never reach this bit


def row_key(seed: int, row_id: str) -> int:
    """The signed 64-bit key of all draws of one row."""
    digest = hashlib.blake2b(f"{seed}\x00{row_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def acceptance_uniform(key: int, draw: DrawKey) -> float:
    """The uniform in (0, 1) that decides whether one attempt is accepted."""
    words = philox4x32([draw.lane, draw.segment, draw.attempt, ACCEPTANCE], split_key(key))
    return (words[0] * 2**21 + (words[1] >> 11) + 0.5) * 2.0**-53


def token_subkeys(
    row_keys_R: npt.NDArray[np.int64], draw_keys_R3: npt.NDArray[np.int64], num_tokens: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Two 32-bit words for each (row, token index), from which `token_noise_bits` draws.

    Args:
        row_keys_R: int64 [R], from `row_key`.
        draw_keys_R3: int64 [R, 3]: lane, segment, attempt.
        num_tokens: T, tokens of the segment.

    Returns:
        Two int64 arrays [R, T] of 32-bit words.
    """
    lanes, segments, attempts = (draw_keys_R3[:, i : i + 1] for i in range(3))
    token_index = np.arange(num_tokens, dtype=np.int64)[None, :]
    zeros = np.zeros_like(lanes + token_index)
    counter = [lanes + zeros, segments + zeros, attempts + zeros, token_index + zeros]
    words = philox4x32(counter, split_key(row_keys_R[:, None]))
    return words[0], words[1]


def token_noise_bits(token_ids: Any, subkey_0: Any, subkey_1: Any) -> Any:
    """32 random bits for each vocabulary id; NumPy or torch int64, broadcasting."""
    return philox2x32(token_ids, subkey_1, subkey_0)


def block_noise_bits(blocks: Any, subkey_0: Any, subkey_1: Any) -> Any:
    """32 random bits for each block of vocabulary ids, independent of all token noise."""
    return philox2x32(blocks | BLOCKS, subkey_1, subkey_0)


def split_key(key: Any) -> tuple[Any, Any]:
    """Low and high 32-bit words of int64 keys."""
    return key & MASK_32, (key >> 32) & MASK_32


def philox4x32(counter: list[Any], key: tuple[Any, Any]) -> list[Any]:
    """Philox4x32-10: four 32-bit words from a 128-bit counter and a 64-bit key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high_0, low_0 = _multiply(c0, 0xD2511F53)
        high_1, low_1 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + 0x9E3779B9) & MASK_32, (k1 + 0xBB67AE85) & MASK_32
    return [c0, c1, c2, c3]


def philox2x32(c0: Any, c1: Any, key: Any) -> Any:
    """First word of Philox2x32-10 with counter (c0, c1)."""
    for _ in range(10):
        high, low = _multiply(c0, 0xD256D193)
        c0, c1 = high ^ key ^ c1, low
        key = (key + 0x9E3779B9) & MASK_32
    return c0


def _multiply(word: Any, constant: int) -> tuple[Any, Any]:
    """High and low 32 bits of a product; int64 wraps around, and the masks drop the sign."""
    product = word * constant
    return (product >> 32) & MASK_32, product & MASK_32

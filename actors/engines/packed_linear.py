"""Linear layers whose weights are laid out once for oneDNN's matrix kernels: for models on a CPU.

Three reasons. A plain `nn.Linear` lays its weight out again in every call (bf16) or uses kernels that are slow for the
few rows of a decode step (fp32): 1.2 to 2.5 times slower, measured at 4 to 64 rows. The packed fp32 kernels give
a row the same bits whatever rows stand beside it, from two rows on, so that a reward does not depend on its batch. And
layers that read the same input are computed in one call: at few rows a call's own cost is most of it.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

PACKED_DTYPES = (torch.float32, torch.bfloat16)
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # children of one module that read one input


@dataclass(slots=True, eq=False)
class PackedWeight:
    """The weights of layers that read the same input, one below the other, and what they last gave.

    Invariant: an output is handed out only for the very tensor it was computed from, and each layer's only once.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    sizes: list[int]
    inputs: torch.Tensor | None = None
    outputs: list[torch.Tensor | None] = field(default_factory=list)

    @classmethod
    def of(cls, linears: list[nn.Linear]) -> "PackedWeight":
        weight = torch.cat([linear.weight.detach() for linear in linears])
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        return cls(packed, torch.cat(biases) if biases else None, [linear.out_features for linear in linears])

    def output(self, layer: int, inputs: torch.Tensor) -> torch.Tensor:
        """What layer number `layer` gives for these inputs."""
        if len(self.sizes) == 1:
            return self._product(inputs)
        if inputs is not self.inputs or self.outputs[layer] is None:
            self.inputs, self.outputs = inputs, list(torch.split_with_sizes(self._product(inputs), self.sizes, dim=-1))
        output, self.outputs[layer] = self.outputs[layer], None
        assert output is not None
        if not any(other is not None for other in self.outputs):
            self.inputs = None
        return output

    def _product(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")


class PackedLinear(nn.Module):
    """A linear layer [*, in_features] → [*, out_features] over a weight that only oneDNN can read."""

    def __init__(self, linear: nn.Linear, packed: PackedWeight, layer: int) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.packed, self.layer = packed, layer

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.packed.output(self.layer, inputs)


@torch.inference_mode()
def pack_linears(model: nn.Module) -> None:
    """Replace every linear layer of a model on a CPU, in place, and let go of the plain weights."""
    if not torch.backends.mkldnn.is_available():
        return
    # Not a list of all modules: it would hold on to every plain layer until the last one is packed.
    parents = [m for m in model.modules() if any(type(child) is nn.Linear for child in m.children())]
    for module in parents:
        for names in _groups(module):
            linears = [getattr(module, name) for name in names]
            packed = PackedWeight.of(linears)
            for layer, (name, linear) in enumerate(zip(names, linears, strict=True)):
                setattr(module, name, PackedLinear(linear, packed, layer))


def _groups(module: nn.Module) -> list[tuple[str, ...]]:
    """Names of the linear layers of a module that can be packed, those that read the same input together."""
    linears = {
        name: child
        for name, child in module.named_children()
        if type(child) is nn.Linear and child.weight.device.type == "cpu" and child.weight.dtype in PACKED_DTYPES
    }
    groups = [names for names in SIBLINGS if _are_alike([linears.get(name) for name in names])]
    rest = linears.keys() - {name for names in groups for name in names}
    return groups + [(name,) for name in linears if name in rest]


def _are_alike(linears: list[nn.Linear | None]) -> bool:
    kinds = {linear and (linear.in_features, linear.bias is None, linear.weight.dtype) for linear in linears}
    return len(kinds) == 1 and None not in kinds

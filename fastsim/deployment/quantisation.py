r"""INT8: the matrices of the networks as 8-bit integers, everything else as it was.

A weight matrix becomes integers with one scale per column, :math:`W_{ij} \approx s_j w_{ij}`; what enters it is scaled
to 8 bits when it arrives (dynamic quantisation, as in onnxruntime), so that no calibration data is needed.  Only
products with a constant float32 matrix are touched: bijections, thresholds and solver states keep their digits.

onnxruntime's own tool refuses graphs whose steps share their weights (each use is transposed anew), which is what an
unrolled solver is; here each matrix is made integer once, and every use refers to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cathode.density.export import OnnxModel
from cathode.support.errors import UserError, require
from cathode.support.files import atomic_write

__all__ = ["Quantised", "quantise"]


@dataclass(frozen=True)
class Quantised:
    """What became of a model.

    Attributes:
        path: The quantised file.
        matrices: Weight matrices that are integers now.
        products: Matrix products that use them.
        bytes_before: Size of the given file.
        bytes_after: Size of the written one.
    """

    path: Path
    matrices: int
    products: int
    bytes_before: int
    bytes_after: int


def quantise(model: str | Path, output: str | Path, *, smallest: int = 256) -> Quantised:
    """Write ``model`` with 8-bit weights.

    Args:
        model: ONNX file in float32.
        output: File to write.
        smallest: Matrices with fewer entries stay as they are.

    Raises:
        UserError: No ONNX file, or no matrix in it that could be made smaller.
    """
    onnx = require("onnx", "onnx")
    model, output = Path(model), Path(output)
    if not model.is_file():
        raise UserError(f"{model}: no such file")
    try:
        graph = onnx.load(str(model))
    except Exception as error:
        raise UserError(f"{model}: not an ONNX file: {str(error).splitlines()[0]}") from error
    rewriter = _Rewriter(onnx, smallest)
    rewriter.rewrite(graph.graph, {})
    if not rewriter.products:
        raise UserError(f"{model}: no matrix of at least {smallest} entries to quantise")
    rewriter.drop_unused(graph.graph)
    with atomic_write(output) as temporary:
        onnx.save(graph, str(temporary))
        OnnxModel(temporary)
    return Quantised(output, rewriter.matrices, rewriter.products, model.stat().st_size, output.stat().st_size)


class _Rewriter:
    def __init__(self, onnx: Any, smallest: int) -> None:
        self.onnx, self.smallest = onnx, smallest
        self.done: dict[tuple[str, bool], tuple[str, str]] = {}
        self.products = 0

    @property
    def matrices(self) -> int:
        return len(self.done)

    def rewrite(self, graph: Any, outer: dict[str, Any]) -> None:
        """Replace products in ``graph``, whose constants and those around it (``outer``) hold the weights."""
        constants = {**outer, **{tensor.name: (tensor, graph) for tensor in graph.initializer}}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
                constants[node.output[0]] = (node.attribute[0].t, graph)
        nodes = []
        for node in graph.node:
            if node.op_type == "Scan":
                self._stacks(node, constants)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    self.rewrite(attribute.g, constants)
            nodes += self._replaced(node, constants)
        del graph.node[:]
        graph.node.extend(nodes)

    def _replaced(self, node: Any, constants: dict[str, Any]) -> list[Any]:
        if node.op_type not in ("MatMul", "Gemm") or node.domain or node.input[1] not in constants:
            return [node]
        tensor, home = constants[node.input[1]]
        if tensor.data_type != self.onnx.TensorProto.FLOAT or len(tensor.dims) != 2 or _size(tensor) < self.smallest:
            return [node]
        options = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        if options.get("transA") or options.get("alpha", 1.0) != 1.0 or options.get("beta", 1.0) != 1.0:
            return [node]
        weight, scale = self._integer(node.input[1], tensor, home, transposed=bool(options.get("transB")))
        return self._product(node, weight, scale)

    def _product(self, node: Any, weight: str, scale: str) -> list[Any]:
        """Nodes that multiply with an integer matrix in place of ``node``."""
        self.products += 1
        stem = f"{node.output[0]}_int8_{self.products}"
        make = self.onnx.helper.make_node
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        last = f"{stem}_product" if bias else node.output[0]
        nodes = [
            make("DynamicQuantizeLinear", [node.input[0]], [f"{stem}_x", f"{stem}_sx", f"{stem}_zx"]),
            make("MatMulInteger", [f"{stem}_x", weight, f"{stem}_zx"], [f"{stem}_i"]),
            make("Cast", [f"{stem}_i"], [f"{stem}_f"], to=self.onnx.TensorProto.FLOAT),
            make("Mul", [f"{stem}_sx", scale], [f"{stem}_s"]),
            make("Mul", [f"{stem}_f", f"{stem}_s"], [last]),
        ]
        return [*nodes, make("Add", [last, bias], [node.output[0]])] if bias else nodes

    def _integer(self, name: str, tensor: Any, home: Any, *, transposed: bool) -> tuple[str, str]:
        """Names of the integer matrix and its scales, kept where the float matrix is."""
        if (name, transposed) not in self.done:
            values = self.onnx.numpy_helper.to_array(tensor)
            values = values.T if transposed else values
            scale = np.abs(values).max(axis=0) / 127.0
            scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
            # 7 bits and a sign: with 8 the sums overflow on processors without VNNI.
            integers = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
            stem = f"{name}_{'t' if transposed else 'n'}"
            for key, array in (("int8", integers), ("scale", scale)):
                home.initializer.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), f"{stem}_{key}"))
            self.done[(name, transposed)] = (f"{stem}_int8", f"{stem}_scale")
        return self.done[(name, transposed)]

    def _stacks(self, scan: Any, constants: dict[str, Any]) -> None:
        """Matrices of a loop, one for each of its steps in a stack ``(steps, in, out)``; scales are one more stack."""
        options = {a.name: a for a in scan.attribute}
        body, count = options["body"].g, options["num_scan_inputs"].i
        uses: dict[str, list[Any]] = {}
        for node in body.node:
            for name in node.input:
                uses.setdefault(name, []).append(node)
        replaced: dict[int, list[Any]] = {}
        for place in range(len(scan.input) - count, len(scan.input)):
            outside, inside = scan.input[place], body.input[place].name
            tensor, home = constants.get(outside, (None, None))
            if tensor is None or tensor.data_type != self.onnx.TensorProto.FLOAT or len(tensor.dims) != 3:
                continue
            values = self.onnx.numpy_helper.to_array(tensor)
            # Stacks of zeros and ones only move numbers to their places.
            if values[0].size < self.smallest or not np.isin(values, (0.0, 1.0), invert=True).any():
                continue
            if not all(self._is_plain_product(node, inside) for node in uses.get(inside, [])):
                continue
            scale = np.abs(values).max(axis=1) / 127.0
            scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
            integers = np.clip(np.rint(values / scale[:, None]), -127, 127).astype(np.int8)
            for key, array in (("int8", integers), ("scale", scale)):
                home.initializer.append(self.onnx.numpy_helper.from_array(array, f"{outside}_{key}"))
            self.done[(outside, False)] = (f"{outside}_int8", f"{outside}_scale")
            scan.input[place] = f"{outside}_int8"
            scan.input.append(f"{outside}_scale")
            body.input[place].type.tensor_type.elem_type = self.onnx.TensorProto.INT8
            body.input.append(
                self.onnx.helper.make_tensor_value_info(f"{inside}_scale", self.onnx.TensorProto.FLOAT, scale.shape[1:])
            )
            options["num_scan_inputs"].i += 1
            for name in ("scan_input_axes", "scan_input_directions"):
                if name in options:
                    options[name].ints.append(0)
            for node in uses[inside]:
                replaced[id(node)] = self._product(node, inside, f"{inside}_scale")
        nodes = [new for node in body.node for new in replaced.get(id(node), [node])]
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del body.node[:]
        body.node.extend(copies)

    @staticmethod
    def _is_plain_product(node: Any, weight: str) -> bool:
        """Whether ``node`` is ``x W`` or ``x W + b`` with the matrix ``weight`` as it is."""
        if node.op_type not in ("MatMul", "Gemm") or list(node.input).index(weight) != 1:
            return False
        return all(
            (a.name in ("alpha", "beta") and a.f == 1.0) or (a.name in ("transA", "transB") and a.i == 0)
            for a in node.attribute
        )

    def drop_unused(self, graph: Any) -> None:
        """Remove float matrices that nothing uses any more."""
        used = {output.name for output in graph.output} | _names(graph)
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        nodes = [node for node in graph.node if node.op_type != "Constant" or node.output[0] in used]
        del graph.node[:]
        graph.node.extend(nodes)


def _names(graph: Any) -> set[str]:
    found = {name for node in graph.node for name in node.input}
    found |= {output.name for output in graph.output}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found |= _names(attribute.g)
    return found


def _size(tensor: Any) -> int:
    return int(np.prod(tensor.dims))

"""Multiply-adds of products from shapes alone: one MAC is one multiply and one add.

Its own file because both counters, the one at torch's dispatcher and the one on ONNX graphs, must mean the same number
by the same product. Everything is a tuple of ints; neither torch nor onnx is imported. A transform is counted in flops
by the usual 5 N log2 N of the radix-2 algorithm (http://www.fftw.org/speed/method.html).
"""

from __future__ import annotations

import math

Shape = tuple[int, ...]


def product(shape: Shape) -> int:
    """The number of values in a tensor of `shape`; 1 for a scalar."""
    return math.prod(shape)


def conv_macs(out_shape: Shape, weight_shape: Shape) -> int:
    """MACs of a convolution from its output (N, Cout, *space) and weight (Cout, Cin / groups, *kernel)."""
    return product(out_shape) * product(weight_shape[1:])


def transposed_conv_macs(in_shape: Shape, weight_shape: Shape) -> int:
    """MACs of a transposed convolution from its input (N, Cin, *space) and weight (Cin, Cout / groups, *kernel)."""
    return product(in_shape) * product(weight_shape[1:])


def matmul_macs(a_shape: Shape, b_shape: Shape) -> int:
    """MACs of numpy's `matmul`: leading axes broadcast, a vector is a row on the left and a column on the right."""
    a = (1, *a_shape) if len(a_shape) == 1 else a_shape
    b = (*b_shape, 1) if len(b_shape) == 1 else b_shape
    return product(broadcast(a[:-2], b[:-2])) * a[-2] * a[-1] * b[-1]


def attention_macs(query_shape: Shape, key_shape: Shape, value_shape: Shape) -> int:
    """MACs of scores and weighted sum: query (..., heads, L, E), key (..., S, E), value (..., S, Ev).

    Fewer heads of keys and values than of queries (grouped queries) are shared, so the query's heads count.
    """
    *outer, length, width = query_shape
    return product(tuple(outer)) * length * key_shape[-2] * (width + value_shape[-1])


def einsum_macs(equation: str, shapes: tuple[Shape, ...]) -> int:
    """MACs of `torch.einsum`: operands are contracted two at a time from the left.

    An index is summed as soon as no later operand has it; in one operand alone (or of length 1 in the other) it is
    summed before the product, an addition without a product. Two operands that share no index to be summed are
    multiplied value by value, which torch lowers to `mul` and not to `bmm`: no MACs. A single operand (trace, sum,
    transpose) has none either.
    """
    terms, output = _terms(equation, shapes)
    left, macs = terms[0], 0
    for position, right in enumerate(terms[1:], start=2):
        needed = output.union(*terms[position:])
        shared = left.keys() & right.keys()
        sizes = {index: size for index, size in (left | right).items() if index in needed | shared}
        if shared - needed:
            macs += math.prod(sizes.values())
        left = {index: size for index, size in sizes.items() if index in needed}
    return macs


def fft_flops(shape: Shape, dims: tuple[int, ...], is_real: bool) -> int:
    """Flops of the Fourier transforms of a tensor of `shape` over `dims`: 5 N log2 N each, half where a side is real.

    `shape` is that of the real side of a real transform, so N is the length in its own domain.
    """
    count = math.prod(shape[dim] for dim in dims)
    if count <= 1:
        return 0
    return round((2.5 if is_real else 5) * product(shape) * math.log2(count))


def broadcast(*shapes: Shape) -> Shape:
    """The shape to which numpy broadcasts `shapes`."""
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(0 if 0 in sizes else max(sizes) for sizes in zip(*padded, strict=True))


def _terms(equation: str, shapes: tuple[Shape, ...]) -> tuple[list[dict[str, int]], set[str]]:
    """The indices of each operand longer than 1 with their lengths, and those of the output.

    The axes of an ellipsis become the indices "0", "1"… from the right, as axes broadcast.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    names = [_indices(term, len(shape)) for term, shape in zip(inputs.split(","), shapes, strict=True)]
    terms = [
        {index: size for index, size in zip(indices, shape, strict=True) if size != 1}
        for indices, shape in zip(names, shapes, strict=True)
    ]
    ellipsis = {index for indices in names for index in indices if index.isdigit()}
    if arrow:
        kept = set(output.replace("...", "")) | (ellipsis if "..." in output else set())
    else:
        letters = "".join(inputs.split(","))
        kept = {letter for letter in letters if letter.isalpha() and letters.count(letter) == 1} | ellipsis
    return terms, kept


def _indices(term: str, rank: int) -> list[str]:
    if "..." not in term:
        return list(term)
    before, _, after = term.partition("...")
    hidden = rank - len(before) - len(after)
    return [*before, *(str(hidden - 1 - position) for position in range(hidden)), *after]

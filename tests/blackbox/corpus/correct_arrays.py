"""Right functions of whole arrays: reductions, products, sorting, matrices, convolutions, losses."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812

from tests.blackbox.corpus import hand_functions as h
from tests.blackbox.corpus.hand_samples import SAMPLES
from tests.blackbox.corpus.operation import full, normal, uniform
from tests.blackbox.corpus.right import BOTH, Inputs, Rights

ARRAYS = Rights()
add = ARRAYS.add

HUGE, TINY = (1e8,), (1e-8,)


def draw(*shapes: tuple[int, ...]) -> Inputs:
    return lambda: tuple(normal(*shape, seed=k) for k, shape in enumerate(shapes))


def rows(name, f, **more):
    """Add a function of a matrix."""
    more = {"scales": BOTH, "ties": True} | more
    add(name, f, draw((4, 5)), draw((1, 5)), draw((3, 3)), draw((2, 17)), **more)


rows("sum", torch.sum)
rows("mean-over-axis", lambda x: x.mean(0))
rows("variance", lambda x: x.var(1), scales=TINY)
rows("variance-biased", lambda x: x.var(1, unbiased=False))
rows("product", lambda x: x.prod(-1))
rows("cumsum", partial(torch.cumsum, dim=-1))
rows("cumprod", partial(torch.cumprod, dim=-1))
rows("cummax", lambda x: torch.cummax(x, -1).values)
rows("logcumsumexp", partial(torch.logcumsumexp, dim=-1))
rows("softmax", partial(torch.softmax, dim=-1))
rows("softmax-columns", partial(torch.softmax, dim=0))
rows("log-softmax", partial(torch.log_softmax, dim=-1))
rows("logsumexp", partial(torch.logsumexp, dim=-1))
rows("softmin", partial(F.softmin, dim=-1))
rows("amax", partial(torch.amax, dim=-1), kinks=(0,))
rows("max-of-rows", lambda x: x.max(-1).values, kinks=(0,))
rows("min-of-all", torch.min, kinks=(0,))
rows("median", lambda x: x.median(-1).values)
rows("sort", lambda x: x.sort(-1).values)
rows("top-two", lambda x: x.topk(2, -1).values)
rows("norm", lambda x: x.norm(dim=-1), kinks=(0,))
rows("norm-one", lambda x: x.norm(p=1, dim=-1), kinks=(0,))
rows("norm-largest", lambda x: x.norm(p=math.inf, dim=-1), kinks=(0,))
rows("normalize", partial(F.normalize, dim=-1), ties=False)
rows("flip-roll", lambda x: x.flip(-1).roll(1, 0))
rows("transpose", lambda x: x.mT)
rows("permute-reshape", lambda x: x.T.reshape(-1) * 2)
rows("diagonal", lambda x: x.diagonal())
rows("lower-triangle", torch.tril)
rows("trace-of-square", lambda x: (x @ x.mT).trace())
rows("expand-and-sum", lambda x: (x[:, None] * x).sum(-1))
rows("pad-reflect", lambda x: F.pad(x[None], (1, 1), mode="reflect")[0])
rows("unfold", lambda x: x.unfold(-1, 3, 1))
rows("gram", lambda x: x.mT @ x)
rows("layer-norm", lambda x: F.layer_norm(x, x.shape[-1:]))
rows("rms-norm", lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-6))
rows("dropout-evaluation", partial(F.dropout, p=0.5, training=False))
rows("dropout-fixed-mask", lambda x: x * (torch.arange(x.shape[-1]) % 2 == 0) * 2)
rows("glu", lambda x: F.glu(torch.cat([x, x.sin()], -1), -1))
rows("distances-squared", lambda x: ((x[:, None] - x) ** 2).sum(-1))
rows("maximum-with-flip", lambda x: torch.maximum(x, x.flip(-1)))

add(
    "matmul",
    torch.matmul,
    draw((3, 4), (4, 2)),
    draw((1, 1), (1, 1)),
    draw((3, 3), (3, 3)),
    scales=BOTH,
    ties=True,
)
add("outer", torch.outer, draw((3,), (4,)), draw((1,), (1,)), draw((3,), (3,)), scales=BOTH)
add(
    "einsum",
    lambda a, b: torch.einsum("bij,bkj->bik", a, b),
    draw((2, 3, 4), (2, 5, 4)),
    draw((1, 1, 4), (1, 2, 4)),
    scales=BOTH,
    ties=True,
)
add("linear", F.linear, draw((5, 3), (4, 3), (4,)), draw((1, 3), (3, 3), (3,)), scales=BOTH, ties=True)
add("bilinear", F.bilinear, draw((5, 3), (5, 2), (4, 3, 2)), draw((1, 3), (1, 3), (3, 3, 3)), scales=BOTH)
add(
    "broadcast-product",
    torch.mul,
    draw((4, 3), (3,)),
    draw((4, 3), (4, 1)),
    draw((2, 3), ()),
    scales=BOTH,
    ties=True,
)
add("maximum", torch.maximum, draw((4, 3), (4, 3)), draw((1,), (1,)), kinks=(0,), ties=True, scales=BOTH)
add("divide", torch.div, lambda: (normal(4, 3), uniform(4, 3, low=0.5, high=2.0)), scales=BOTH)
add("atan2", torch.atan2, draw((4, 3), (4, 3)), draw((7,), (7,)))
add("hypot", torch.hypot, draw((4, 3), (4, 3)), draw((7,), (7,)), scales=BOTH)
add(
    "lerp", lambda a, b: torch.lerp(a, b, 0.3), draw((4, 3), (4, 3)), draw((7,), (7,)), scales=BOTH, ties=True
)
add("cosine-similarity", F.cosine_similarity, draw((4, 3), (4, 3)), draw((1, 7), (1, 7)))
add("cdist", torch.cdist, draw((4, 3), (2, 3)), draw((1, 3), (1, 3)))

square = draw((4, 4)), draw((1, 1)), draw((2, 2))
add("determinant", torch.linalg.det, *square, ties=True)
add("trace", torch.trace, *square, scales=BOTH, ties=True)
shifted = lambda a: a @ a.mT + 4 * torch.eye(a.shape[-1], dtype=a.dtype)  # noqa: E731
add("inverse-of-definite", lambda a: torch.linalg.inv(shifted(a)), *square, ties=True)
add("log-determinant", lambda a: torch.linalg.slogdet(shifted(a))[1], *square, ties=True)
add("cholesky", lambda a: torch.linalg.cholesky(shifted(a)), *square, ties=True)
add(
    "solve",
    lambda a, b: torch.linalg.solve(shifted(a), b),
    draw((4, 4), (4, 2)),
    draw((2, 2), (2, 1)),
    ties=True,
)
add("matrix-exponential", lambda a: torch.linalg.matrix_exp(a / 4), *square, ties=True)
add("matrix-power", lambda a: torch.linalg.matrix_power(a, 3), *square, ties=True)
add(
    "cumprod-with-zeros",
    partial(torch.cumprod, dim=-1),
    lambda: (full(2.0, 0.0, 3.0, 0.0, -1.0),),
    scales=BOTH,
)
add("product-with-one-zero", torch.prod, lambda: (full(2.0, 0.0, 3.0, -1.0),), lambda: (full(0.0, 0.0, 3.0),))
add(
    "softmax-saturated",
    partial(torch.softmax, dim=-1),
    lambda: (full(900.0, 0.0, -900.0),),
    lambda: (full(5.0),),
)

image = normal(2, 3, 6, 6)
conv = {"scales": BOTH, "ties": True}
add("conv1d", F.conv1d, draw((2, 3, 7), (4, 3, 3), (4,)), draw((1, 1, 3), (1, 1, 3), (1,)), **conv)
add(
    "conv1d-stride",
    partial(F.conv1d, stride=2, padding=1),
    draw((2, 3, 8), (4, 3, 3)),
    draw((1, 3, 5), (4, 3, 3)),
    **conv,
)
add("conv2d", F.conv2d, draw((2, 3, 5, 5), (4, 3, 3, 3)), draw((1, 1, 3, 3), (1, 1, 3, 3)), **conv)
add("conv2d-dilated", partial(F.conv2d, dilation=2), draw((1, 2, 6, 6), (2, 2, 2, 2)), **conv)
add("conv-transpose", F.conv_transpose1d, draw((2, 3, 5), (3, 2, 3)), draw((1, 1, 1), (1, 1, 2)), **conv)
add(
    "conv2d-channels-last",
    F.conv2d,
    lambda: (normal(2, 3, 5, 5).to(memory_format=torch.channels_last), normal(4, 3, 3, 3, seed=1)),
    **conv,
)
pool = {"scales": BOTH, "ties": True}
add("max-pool1d", partial(F.max_pool1d, kernel_size=2), draw((2, 3, 6)), draw((1, 1, 7)), kinks=(0,), **pool)
add(
    "max-pool2d",
    partial(F.max_pool2d, kernel_size=2),
    draw((2, 3, 4, 4)),
    draw((1, 1, 5, 5)),
    kinks=(0,),
    **pool,
)
add("average-pool", partial(F.avg_pool2d, kernel_size=2), draw((2, 3, 4, 4)), draw((1, 1, 5, 5)), **pool)
add("adaptive-pool", partial(F.adaptive_avg_pool1d, output_size=3), draw((2, 3, 7)), draw((1, 1, 3)), **pool)
add(
    "upsample-linear",
    partial(F.interpolate, scale_factor=2, mode="linear"),
    draw((1, 2, 5)),
    draw((1, 1, 2)),
    **pool,
)
add(
    "group-norm",
    lambda x, w, b: F.group_norm(x, 2, w, b),
    draw((2, 4, 3), (4,), (4,)),
    draw((1, 4, 5), (4,), (4,)),
)
add("instance-norm", F.instance_norm, draw((2, 3, 6)), draw((1, 1, 4)), scales=TINY)
add(
    "batch-norm-training",
    lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    draw((6, 3), (3,), (3,)),
    draw((4, 1), (1,), (1,)),
    scales=TINY,
)
add(
    "layer-norm-affine",
    lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b),
    draw((3, 6), (6,), (6,)),
    ties=True,
)
add("prelu", F.prelu, draw((4, 3), (3,)), draw((1, 3), (1,)), kinks=(0,), ties=True, scales=BOTH)

heads = draw((2, 3, 4), (2, 5, 4), (2, 5, 3))
add(
    "attention",
    F.scaled_dot_product_attention,
    heads,
    draw((1, 1, 2), (1, 1, 2), (1, 1, 2)),
    scales=TINY,
    ties=True,
)
add(
    "attention-causal",
    partial(F.scaled_dot_product_attention, is_causal=True),
    draw((2, 4, 4), (2, 4, 4), (2, 4, 4)),
    draw((1, 2, 3), (1, 2, 3), (1, 2, 3)),
    ties=True,
)


def labels(*values: int):
    return torch.tensor(values)


classes = lambda: (normal(4, 5), labels(1, 3, 0, 4))  # noqa: E731
one_row = lambda: (normal(1, 3), labels(2))  # noqa: E731
loss = {"scales": BOTH, "ties": True}
add("cross-entropy", F.cross_entropy, classes, one_row, **loss)
add("cross-entropy-smoothed", partial(F.cross_entropy, label_smoothing=0.1), classes, one_row, **loss)
add(
    "cross-entropy-ignored",
    partial(F.cross_entropy, reduction="sum"),
    lambda: (normal(4, 5), labels(1, -100, 0, 4)),
    one_row,
    **loss,
)
add("nll", lambda x, t: F.nll_loss(torch.log_softmax(x, -1), t), classes, one_row, **loss)
add("multi-margin", F.multi_margin_loss, classes, one_row)
pair = draw((4, 3), (4, 3)), draw((1,), (1,))
add("mse", F.mse_loss, *pair, **loss)
add("l1", F.l1_loss, *pair, kinks=(0,), **loss)
add("huber", partial(F.huber_loss, delta=0.5), *pair, **loss)
add("smooth-l1", partial(F.smooth_l1_loss, reduction="none"), *pair, **loss)
add("soft-margin", lambda x: F.soft_margin_loss(x, torch.ones_like(x)), draw((4, 3)), draw((1,)), scales=TINY)
probabilities = lambda: (normal(4, 3), uniform(4, 3, low=0.1, high=0.9))  # noqa: E731
add("bce-with-logits", F.binary_cross_entropy_with_logits, probabilities, **loss)
add("bce", lambda x, t: F.binary_cross_entropy(x.sigmoid(), t), probabilities, scales=TINY)
add("kl-divergence", lambda x, t: F.kl_div(x.log_softmax(-1), t.softmax(-1), reduction="batchmean"), *pair)
add("triplet", F.triplet_margin_loss, draw((4, 3), (4, 3), (4, 3)), draw((1, 3), (1, 3), (1, 3)))

add("index-rows", lambda x, i: x[i], lambda: (normal(5, 3), labels(0, 4, 0)), **loss)
add(
    "gather",
    lambda x, i: x.gather(-1, i),
    lambda: (normal(2, 4), torch.tensor([[0, 0, 3], [2, 1, 1]])),
    **loss,
)
add("embedding", lambda i, w: F.embedding(i, w), lambda: (labels(1, 1, 4), normal(5, 3)), ties=True)
add(
    "scatter-add",
    lambda x, i: x.new_zeros(6).index_add(0, i, x),
    lambda: (normal(4), labels(0, 2, 2, 5)),
    **loss,
)
add(
    "masked-fill",
    lambda x, m: x.masked_fill(m, -1.0),
    lambda: (normal(3, 3), torch.eye(3, dtype=torch.bool)),
    **loss,
)
add(
    "where-of-three",
    torch.where,
    lambda: (torch.eye(3, dtype=torch.bool), normal(3, 3), normal(3, 3, seed=1)),
    ties=True,
)
add("choose-by-int", lambda x, k: x[..., k] * 2, lambda: (normal(3, 4), 2), ties=True)

# Kinks of those written by hand; the others are smooth.
BENT = {h.LeakyRelu: (0.0,), h.Elu: (0.0,), h.Softsign: (0.0,), h.LogCosh: (0.0,)}
for f, samples in SAMPLES.items():
    more = [make for kind, make in samples.items() if kind != "plain"]
    add(f"by-hand-{f.__name__.lower()}", f.apply, samples["plain"], *more, kinks=BENT.get(f, ()))

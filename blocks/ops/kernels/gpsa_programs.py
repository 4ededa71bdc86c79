"""GPSA in one pass: content by online softmax (FlashAttention-2, Dao 2023), position and gate from the same tiles.

Keys are taken by whole rows of the grid, each row padded to a power of two. So a tile of position weights is the outer
product of a few numbers for its rows and of `cols`, which never changes: no gather and no second exponential. Prefix
tokens fill rows of their own below the grid, which position gives nothing to. Nothing is added by atomics: what all
queries add to goes through partial sums, one a program.
"""

import triton
import triton.language as tl

from blocks.ops.kernels.dot import dot

LOG2_E = tl.constexpr(1.4426950408889634)  # powers of 2 are what the hardware has


@triton.jit
def _which(blocks, HEADS):
    """Block, and in int64 sample and head, of a program. One axis for all: the others end at 65,535."""
    of_all = tl.program_id(0) // blocks
    return tl.program_id(0) % blocks, (of_all // HEADS).to(tl.int64), (of_all % HEADS).to(tl.int64)


@triton.jit
def _key_places(first_row, HEIGHT, WIDTH, PREFIX, WIDE: tl.constexpr, KEYS: tl.constexpr):
    """Token and validity [KEYS] of a tile that starts at this row of the grid, prefix tokens below it."""
    i = tl.arange(0, KEYS)
    y, x = first_row + i // WIDE, i % WIDE
    below = (y - HEIGHT) * WIDE + x
    token = tl.where(y < HEIGHT, PREFIX + y * WIDTH + x, below)
    return token, tl.where(y < HEIGHT, x < WIDTH, below < PREFIX)


@triton.jit
def _query_places(first, HEIGHT, WIDTH, PREFIX, QUERIES: tl.constexpr):
    """Token, validity, and for those on the grid y and x, [QUERIES] each."""
    token = first + tl.arange(0, QUERIES)
    inside = token < PREFIX + HEIGHT * WIDTH
    on_grid = inside & (token >= PREFIX)
    place = tl.where(on_grid, token - PREFIX, 0)
    return token, inside, on_grid, place // WIDTH, place % WIDTH


@triton.jit
def _load_tokens(pointer, token, inside, stride, D: tl.constexpr, DIM: tl.constexpr):
    """[tokens, DIM], zero where there is none."""
    d = tl.arange(0, DIM)
    at = pointer + token.to(tl.int64)[:, None] * stride + d[None, :]
    return tl.load(at, mask=inside[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def _store_tokens(pointer, value, token, inside, stride, D: tl.constexpr, DIM: tl.constexpr):
    d = tl.arange(0, DIM)
    at = pointer + token.to(tl.int64)[:, None] * stride + d[None, :]
    tl.store(at, value.to(pointer.dtype.element_ty), mask=inside[:, None] & (d < D)[None, :])


@triton.jit
def _load_factor(pointer, place, on_grid, to, LENGTH):
    """Position weights from these places to `to`: [queries, to], zero off the grid."""
    mask = on_grid[:, None] & (to < LENGTH)[None, :]
    return tl.load(pointer + place[:, None] * LENGTH + to[None, :], mask=mask, other=0.0)


@triton.jit
def weighted_sums(
    Q,
    K,
    V,
    ROWS,
    COLS,
    GATE,
    OUT,
    CONTENT,
    LSE,
    q_strides,
    k_strides,
    v_strides,
    out_strides,
    scale,
    HEADS,
    HEIGHT,
    WIDTH,
    PREFIX,
    KEEP: tl.constexpr,
    D: tl.constexpr,
    DIM: tl.constexpr,
    WIDE: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One block of queries of one head of one sample."""
    HIGH_TILE: tl.constexpr = KEYS // WIDE
    blocks = tl.cdiv(PREFIX + HEIGHT * WIDTH, QUERIES)
    block, sample, head = _which(blocks, HEADS)
    token, inside, on_grid, y, x = _query_places(block * QUERIES, HEIGHT, WIDTH, PREFIX, QUERIES)
    K += sample * k_strides[0] + head * k_strides[1]
    V += sample * v_strides[0] + head * v_strides[1]
    Q += sample * q_strides[0] + head * q_strides[1]
    q = _load_tokens(Q, token, inside, q_strides[2], D, DIM)
    cols = _load_factor(COLS + head * WIDTH * WIDTH, x, on_grid, tl.arange(0, WIDE), WIDTH)
    top = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    content = tl.zeros([QUERIES, DIM], tl.float32)
    moved = tl.zeros([QUERIES, DIM], tl.float32)
    zeros = tl.zeros([QUERIES, KEYS], tl.float32)
    for first_row in range(0, HEIGHT + tl.cdiv(PREFIX, WIDE), HIGH_TILE):
        key, valid = _key_places(first_row, HEIGHT, WIDTH, PREFIX, WIDE, KEYS)
        k = _load_tokens(K, key, valid, k_strides[2], D, DIM)
        v = _load_tokens(V, key, valid, v_strides[2], D, DIM)
        scores = dot(q, tl.trans(k), zeros, PRECISION) * scale
        scores = tl.where(valid[None, :], scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weights, 1)
        content = dot(weights.to(v.dtype), v, content * shrink[:, None], PRECISION)
        to_row = first_row + tl.arange(0, HIGH_TILE)
        rows = _load_factor(ROWS + head * HEIGHT * HEIGHT, y, on_grid, to_row, HEIGHT)
        position = tl.reshape(rows[:, :, None] * cols[:, None, :], [QUERIES, KEYS])
        moved = dot(position.to(v.dtype), v, moved, PRECISION)
        top = new_top
    content = content / total[:, None]
    gate = tl.where(on_grid, tl.load(GATE + head), 0.0)[:, None]
    place = sample * out_strides[0] + head * out_strides[1]
    _store_tokens(OUT + place, content + gate * (moved - content), token, inside, out_strides[2], D, DIM)
    if KEEP:
        _store_tokens(CONTENT + place, content, token, inside, out_strides[2], D, DIM)
    tokens = PREFIX + HEIGHT * WIDTH
    tl.store(LSE + (sample * HEADS + head) * tokens + token, top + tl.log2(total), mask=inside)


@triton.jit
def grad_queries(
    GRAD,
    Q,
    K,
    V,
    ROWS,
    COLS,
    GATE,
    CONTENT,
    LSE,
    GRAD_Q,
    DELTA,
    FROM_ROWS,
    FROM_COLS,
    q_strides,
    k_strides,
    v_strides,
    grad_strides,
    content_strides,
    grad_q_strides,
    scale,
    HEADS,
    HEIGHT,
    WIDTH,
    PREFIX,
    HIGH: tl.constexpr,
    D: tl.constexpr,
    DIM: tl.constexpr,
    WIDE: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
    SUMS: tl.constexpr,
):
    """One block of queries: their gradient, and what they add to those of rows and cols, before the gate."""
    HIGH_TILE: tl.constexpr = KEYS // WIDE
    blocks = tl.cdiv(PREFIX + HEIGHT * WIDTH, QUERIES)
    block, sample, head = _which(blocks, HEADS)
    token, inside, on_grid, y, x = _query_places(block * QUERIES, HEIGHT, WIDTH, PREFIX, QUERIES)
    K += sample * k_strides[0] + head * k_strides[1]
    V += sample * v_strides[0] + head * v_strides[1]
    Q += sample * q_strides[0] + head * q_strides[1]
    GRAD += sample * grad_strides[0] + head * grad_strides[1]
    CONTENT += sample * content_strides[0] + head * content_strides[1]
    q = _load_tokens(Q, token, inside, q_strides[2], D, DIM)
    grad = _load_tokens(GRAD, token, inside, grad_strides[2], D, DIM)
    content = _load_tokens(CONTENT, token, inside, content_strides[2], D, DIM)
    delta = tl.sum(grad.to(tl.float32) * content.to(tl.float32), 1)
    per_token = (sample * HEADS + head) * (PREFIX + HEIGHT * WIDTH) + token
    tl.store(DELTA + per_token, delta, mask=inside)
    lse = tl.load(LSE + per_token, mask=inside, other=0.0)
    high, wide = tl.arange(0, HIGH), tl.arange(0, WIDE)
    cols = _load_factor(COLS + head * WIDTH * WIDTH, x, on_grid, wide, WIDTH)
    grad_q = tl.zeros([QUERIES, DIM], tl.float32)
    to_rows = tl.zeros([QUERIES, HIGH], tl.float32)
    to_cols = tl.zeros([QUERIES, WIDE], tl.float32)
    zeros = tl.zeros([QUERIES, KEYS], tl.float32)
    for first_row in range(0, HEIGHT + tl.cdiv(PREFIX, WIDE), HIGH_TILE):
        key, valid = _key_places(first_row, HEIGHT, WIDTH, PREFIX, WIDE, KEYS)
        k = _load_tokens(K, key, valid, k_strides[2], D, DIM)
        v = _load_tokens(V, key, valid, v_strides[2], D, DIM)
        scores = dot(q, tl.trans(k), zeros, PRECISION) * (scale * LOG2_E)
        weights = tl.where(valid[None, :], tl.exp2(scores - lse[:, None]), 0.0)
        to_weights = dot(grad, tl.trans(v), zeros, PRECISION)
        to_scores = (weights * (to_weights - delta[:, None])).to(k.dtype)
        grad_q = dot(to_scores, k, grad_q, PRECISION)
        to_row = first_row + tl.arange(0, HIGH_TILE)
        rows = _load_factor(ROWS + head * HEIGHT * HEIGHT, y, on_grid, to_row, HEIGHT)
        on_rows = tl.reshape(to_weights, [QUERIES, HIGH_TILE, WIDE])
        to_cols += tl.sum(on_rows * rows[:, :, None], 1)
        of_rows = tl.sum(on_rows * cols[:, None, :], 2)  # [queries, rows of the tile]
        here = (to_row[:, None] == high[None, :])[None, :, :]
        to_rows += tl.sum(tl.where(here, of_rows[:, :, None], 0.0), 1)
    gate = tl.where(on_grid, tl.load(GATE + head), 0.0)
    place = sample * grad_q_strides[0] + head * grad_q_strides[1]
    grad_q = grad_q * ((1 - gate) * scale)[:, None]
    _store_tokens(GRAD_Q + place, grad_q, token, inside, grad_q_strides[2], D, DIM)
    part = (sample * blocks + block) * HEADS + head
    _store_by_place(FROM_ROWS + part * HEIGHT * HEIGHT, to_rows, y, high, HEIGHT, HIGH, SUMS)
    _store_by_place(FROM_COLS + part * WIDTH * WIDTH, to_cols, x, wide, WIDTH, WIDE, SUMS)


@triton.jit
def _store_by_place(pointer, value, place, to, LENGTH, SIZE: tl.constexpr, PRECISION: tl.constexpr):
    """Sums of value [queries, SIZE] over the queries at each place -> [LENGTH, LENGTH]. Off the grid it is zero."""
    start = tl.arange(0, SIZE)
    at = (start[:, None] == place[None, :]).to(tl.float32)
    sums = tl.dot(at, value, input_precision=PRECISION)
    mask = (start < LENGTH)[:, None] & (to < LENGTH)[None, :]
    tl.store(pointer + start[:, None] * LENGTH + to[None, :], sums, mask=mask)


@triton.jit
def grad_keys(
    GRAD,
    Q,
    K,
    V,
    ROWS,
    COLS,
    GATE,
    LSE,
    DELTA,
    GRAD_K,
    GRAD_V,
    q_strides,
    k_strides,
    v_strides,
    grad_strides,
    grad_k_strides,
    scale,
    HEADS,
    HEIGHT,
    WIDTH,
    PREFIX,
    D: tl.constexpr,
    DIM: tl.constexpr,
    WIDE: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile of keys: the gradients of k and of v. Content and position are mixed before their product with grad."""
    HIGH_TILE: tl.constexpr = KEYS // WIDE
    tile, sample, head = _which(tl.cdiv(HEIGHT + tl.cdiv(PREFIX, WIDE), HIGH_TILE), HEADS)
    first_row = tile * HIGH_TILE
    key, valid = _key_places(first_row, HEIGHT, WIDTH, PREFIX, WIDE, KEYS)
    Q += sample * q_strides[0] + head * q_strides[1]
    GRAD += sample * grad_strides[0] + head * grad_strides[1]
    k = _load_tokens(K + sample * k_strides[0] + head * k_strides[1], key, valid, k_strides[2], D, DIM)
    v = _load_tokens(V + sample * v_strides[0] + head * v_strides[1], key, valid, v_strides[2], D, DIM)
    gate_here = tl.load(GATE + head)
    to_row, to_col = first_row + tl.arange(0, HIGH_TILE), tl.arange(0, WIDE)
    tokens = PREFIX + HEIGHT * WIDTH
    per_token = (sample * HEADS + head) * tokens
    grad_k = tl.zeros([KEYS, DIM], tl.float32)
    grad_v = tl.zeros([KEYS, DIM], tl.float32)
    zeros = tl.zeros([KEYS, QUERIES], tl.float32)
    for first in range(0, tokens, QUERIES):
        token, inside, on_grid, y, x = _query_places(first, HEIGHT, WIDTH, PREFIX, QUERIES)
        q = _load_tokens(Q, token, inside, q_strides[2], D, DIM)
        grad = _load_tokens(GRAD, token, inside, grad_strides[2], D, DIM)
        lse = tl.load(LSE + per_token + token, mask=inside, other=0.0)
        delta = tl.load(DELTA + per_token + token, mask=inside, other=0.0)
        gate = tl.where(on_grid, gate_here, 0.0)[None, :]
        scores = dot(k, tl.trans(q), zeros, PRECISION) * (scale * LOG2_E)  # [keys, queries]
        weights = (1 - gate) * tl.exp2(scores - lse[None, :])
        rows = tl.trans(_load_factor(ROWS + head * HEIGHT * HEIGHT, y, on_grid, to_row, HEIGHT))
        cols = tl.trans(_load_factor(COLS + head * WIDTH * WIDTH, x, on_grid, to_col, WIDTH))
        position = tl.reshape(rows[:, None, :] * cols[None, :, :], [KEYS, QUERIES])
        grad_v = dot((weights + gate * position).to(grad.dtype), grad, grad_v, PRECISION)
        to_weights = dot(v, tl.trans(grad), zeros, PRECISION)
        to_scores = (weights * (to_weights - delta[None, :])).to(q.dtype)
        grad_k = dot(to_scores, q, grad_k, PRECISION)
    place = sample * grad_k_strides[0] + head * grad_k_strides[1]
    _store_tokens(GRAD_K + place, grad_k * scale, key, valid, grad_k_strides[2], D, DIM)
    _store_tokens(GRAD_V + place, grad_v, key, valid, grad_k_strides[2], D, DIM)

"""MegaLoc in plain PyTorch, from the formulas of its papers: the oracle of our ONNX graph."""

import math

import numpy as np
import torch
from torch.nn import functional

WIDTH, HEADS, BLOCKS, SIDE = 128, 2, 3, 5
CLUSTERS, DEPTH, SCENE, HIDDEN, OUTPUTS = 8, 16, 12, 32, 48


def seeded_state(seed=0):
    """Small seeded weights with the published names; activations stay in range."""
    draw = np.random.default_rng(seed)

    def values(*shape, scale=1.0):
        return torch.from_numpy((scale * draw.standard_normal(shape)).astype(np.float32))

    state = {
        "backbone.cls_token": values(1, 1, WIDTH, scale=0.2),
        "backbone.pos_embed": values(1, 1 + SIDE**2, WIDTH, scale=0.3),
        "backbone.patch_embed.proj.weight": values(WIDTH, 3, 14, 14, scale=1 / 24),
        "backbone.patch_embed.proj.bias": values(WIDTH, scale=0.1),
        "aggregator.agg.dust_bin": torch.tensor(0.7),
    }

    def layer(name, outputs, inputs, *ones):
        state[f"{name}.weight"] = values(outputs, inputs, *ones, scale=1.4 / math.sqrt(inputs))
        state[f"{name}.bias"] = values(outputs, scale=0.1)

    def norm(name):
        state[f"{name}.weight"] = 1 + values(WIDTH, scale=0.1)
        state[f"{name}.bias"] = values(WIDTH, scale=0.1)

    for number in range(BLOCKS):
        block = f"backbone.blocks.{number}"
        norm(f"{block}.norm1")
        layer(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        layer(f"{block}.attn.proj", WIDTH, WIDTH)
        norm(f"{block}.norm2")
        layer(f"{block}.mlp.fc1", 2 * WIDTH, WIDTH)
        layer(f"{block}.mlp.fc2", WIDTH, 2 * WIDTH)
        for name in ("ls1", "ls2"):
            state[f"{block}.{name}.gamma"] = values(WIDTH, scale=0.5)
    norm("backbone.norm")
    agg = "aggregator.agg"
    layer(f"{agg}.token_features.0", HIDDEN, WIDTH)
    layer(f"{agg}.token_features.2", SCENE, HIDDEN)
    layer(f"{agg}.cluster_features.0", HIDDEN, WIDTH, 1, 1)
    layer(f"{agg}.cluster_features.3", DEPTH, HIDDEN, 1, 1)
    layer(f"{agg}.score.0", HIDDEN, WIDTH, 1, 1)
    layer(f"{agg}.score.3", CLUSTERS, HIDDEN, 1, 1)
    layer("aggregator.linear", OUTPUTS, SCENE + CLUSTERS * DEPTH)
    return state


def positions(embedding, rows, columns):
    """The position embeddings of the patches, (1, C, rows, columns), by PyTorch's own resize."""
    side = math.isqrt(embedding.shape[1] - 1)
    grid = embedding[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if rows == columns == side:
        return grid
    factors = (rows + 0.1) / side, (columns + 0.1) / side
    return functional.interpolate(grid, scale_factor=factors, mode="bicubic")


def transport(scores, dust_bin):
    """How cells are shared among clusters: scores (1, m, n) to (1, m, n)."""
    _, m, n = scores.shape
    table = torch.cat([scores, dust_bin.expand(1, 1, n)], dim=1)
    norm = -math.log(n + m)
    log_a = torch.full((1, m + 1), norm, dtype=scores.dtype)
    log_a[:, -1] += math.log(n - m)
    log_b = torch.full((1, n), norm, dtype=scores.dtype)
    u, v = torch.zeros_like(log_a), torch.zeros_like(log_b)
    for _ in range(3):
        u = log_a - torch.logsumexp(table + v[:, None, :], dim=2)
        v = log_b - torch.logsumexp(table + u[:, :, None], dim=1)
    return torch.exp(table + u[:, :, None] + v[:, None, :] - norm)[:, :-1]


def descriptor(state, image):
    """The descriptor (1, D) of an image (1, 3, H, W) of any dtype; the state is brought to it."""
    state = {key: value.to(image.dtype) for key, value in state.items()}

    def layer(x, name):
        weight = state[f"{name}.weight"]
        return functional.linear(x, weight.flatten(1), state[f"{name}.bias"])

    def norm(x, name):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, eps=1e-6)

    proj = "backbone.patch_embed.proj"
    cells = functional.conv2d(image, state[f"{proj}.weight"], state[f"{proj}.bias"], stride=14)
    embedding = state["backbone.pos_embed"]
    cells = (cells + positions(embedding, *cells.shape[2:])).flatten(2).transpose(1, 2)
    x = torch.cat([state["backbone.cls_token"] + embedding[:, :1], cells], dim=1)
    for number in range(BLOCKS):
        block = f"backbone.blocks.{number}"
        qkv = layer(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        q, k, v = qkv.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        shares = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(WIDTH / HEADS), dim=-1)
        mixed = (shares @ v).transpose(1, 2).flatten(2)
        x = x + state[f"{block}.ls1.gamma"] * layer(mixed, f"{block}.attn.proj")
        hidden = functional.gelu(layer(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + state[f"{block}.ls2.gamma"] * layer(hidden, f"{block}.mlp.fc2")
    x = norm(x, "backbone.norm")
    scene, cells = x[:, 0], x[:, 1:]

    def two(x, name, second):
        hidden = torch.relu(layer(x, f"aggregator.agg.{name}.0"))
        return layer(hidden, f"aggregator.agg.{name}.{second}")

    features = two(cells, "cluster_features", 3).transpose(1, 2)  # (1, d, n)
    scores = two(cells, "score", 3).transpose(1, 2)  # (1, m, n)
    shares = transport(scores, state["aggregator.agg.dust_bin"])
    sums = (features[:, :, None] * shares[:, None]).sum(-1)  # (1, d, m)
    scene = functional.normalize(two(scene, "token_features", 2), dim=-1)
    whole = torch.cat([scene, functional.normalize(sums, dim=1).flatten(1)], dim=-1)
    return functional.normalize(
        layer(functional.normalize(whole, dim=-1), "aggregator.linear"), dim=-1
    )

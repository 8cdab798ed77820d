"""The cells' equations in float64 NumPy, forward and backward through time by hand: nothing of torch, one clip at once.

Weights of a layer are as torch names and stacks them: ih (G·H, D), hh (G·H, H), b_ih, b_hh (G·H), and `peephole` (3·H).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]
State = tuple[Array, ...]
# From the derivatives of the state after a step: those of the weights are added, those of x and the state returned.
Backward = Callable[[State, Weights], tuple[Array, State]]
Step = Callable[[Weights, Array, State], tuple[State, Backward]]


def sigmoid(values: Array) -> Array:
    """1 / (1 + e^-x)."""
    result: Array = 1 / (1 + np.exp(-values))
    return result


def _affine(w: Weights, x: Array, h: Array) -> tuple[Array, Array]:
    return w["ih"] @ x + w["b_ih"], w["hh"] @ h + w["b_hh"]


def _affine_back(w: Weights, g: Weights, x: Array, h: Array, of_input: Array, of_hidden: Array) -> tuple[Array, Array]:
    g["ih"] += np.outer(of_input, x)
    g["b_ih"] += of_input
    g["hh"] += np.outer(of_hidden, h)
    g["b_hh"] += of_hidden
    return w["ih"].T @ of_input, w["hh"].T @ of_hidden


def rnn(w: Weights, x: Array, state: State) -> tuple[State, Backward]:
    """h' = tanh(W x + R h + b): Elman 1990."""
    (h,) = state
    after = np.tanh(sum(_affine(w, x, h)))

    def backward(d: State, g: Weights) -> tuple[Array, State]:
        dz = d[0] * (1 - after**2)
        dx, dh = _affine_back(w, g, x, h, dz, dz)
        return dx, (dh,)

    return (after,), backward


def rnn_relu(w: Weights, x: Array, state: State) -> tuple[State, Backward]:
    """h' = max(0, W x + R h + b): Le, Jaitly, Hinton 2015."""
    (h,) = state
    after = np.maximum(0, sum(_affine(w, x, h)))

    def backward(d: State, g: Weights) -> tuple[Array, State]:
        dz = d[0] * (after > 0)
        dx, dh = _affine_back(w, g, x, h, dz, dz)
        return dx, (dh,)

    return (after,), backward


def lstm(w: Weights, x: Array, state: State) -> tuple[State, Backward]:
    """Gates input, forget, cell, output: Hochreiter and Schmidhuber 1997, Gers et al. 2000; peepholes Gers et al. 2002.

    c' = f c + i g; h' = o tanh(c'). i and f see c, o sees c', each through its peephole, where there are any.
    """
    h, c = state
    p_i, p_f, p_o = np.split(w["peephole"], 3) if "peephole" in w else np.zeros((3, len(h)))
    z_i, z_f, z_g, z_o = np.split(sum(_affine(w, x, h)), 4)
    i, f, candidate = sigmoid(z_i + p_i * c), sigmoid(z_f + p_f * c), np.tanh(z_g)
    cell = f * c + i * candidate
    o = sigmoid(z_o + p_o * cell)
    squashed = np.tanh(cell)

    def backward(d: State, g: Weights) -> tuple[Array, State]:
        dz_o = d[0] * squashed * o * (1 - o)
        d_cell = d[1] + d[0] * o * (1 - squashed**2) + dz_o * p_o
        dz_f = d_cell * c * f * (1 - f)
        dz_i = d_cell * candidate * i * (1 - i)
        dz_g = d_cell * i * (1 - candidate**2)
        dz = np.concatenate([dz_i, dz_f, dz_g, dz_o])
        if "peephole" in w:
            g["peephole"] += np.concatenate([dz_i * c, dz_f * c, dz_o * cell])
        dx, dh = _affine_back(w, g, x, h, dz, dz)
        return dx, (dh, d_cell * f + dz_i * p_i + dz_f * p_f)

    return (o * squashed, cell), backward


def gru(w: Weights, x: Array, state: State) -> tuple[State, Backward]:
    """Gates reset, update, new; h' = (1 - z) n + z h: Cho et al. 2014; the reset gate falls on the product."""
    (h,) = state
    of_input, of_hidden = _affine(w, x, h)
    (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(of_input, 3), np.split(of_hidden, 3)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)

    def backward(d: State, g: Weights) -> tuple[Array, State]:
        d_n = d[0] * (1 - z) * (1 - n**2)
        d_r = d_n * h_n * r * (1 - r)
        d_z = d[0] * (h - n) * z * (1 - z)
        dx, dh = _affine_back(w, g, x, h, np.concatenate([d_r, d_z, d_n]), np.concatenate([d_r, d_z, d_n * r]))
        return dx, (dh + d[0] * z,)

    return ((1 - z) * n + z * h,), backward


STEPS: dict[str, Step] = {"rnn": rnn, "rnn-relu": rnn_relu, "lstm": lstm, "peephole-lstm": lstm, "gru": gru}


@dataclass
class Run:
    """A clip through all layers. outputs: (T, directions · H); finals: for each state (layers · directions, H)."""

    outputs: Array
    finals: list[Array]
    tapes: list[list[Backward]]


def forward(step: Step, layers: list[list[Weights]], rows: Array, initial: list[Array]) -> Run:
    """layers: for each, its directions; rows (T, D); initial: for each state (layers · directions, H)."""
    finals: list[State] = []
    tapes: list[list[Backward]] = []
    for directions in layers:
        outputs = []
        for direction, w in enumerate(directions):
            state: State = tuple(part[len(finals)] for part in initial)
            times = range(len(rows))[:: -1 if direction else 1]
            out = np.zeros((len(rows), len(state[0])))
            tape = []
            for t in times:
                state, backward = step(w, rows[t], state)
                out[t] = state[0]
                tape.append(backward)
            finals.append(state)
            tapes.append(tape)
            outputs.append(out)
        rows = np.concatenate(outputs, axis=1)
    return Run(rows, [np.stack(part) for part in zip(*finals, strict=True)], tapes)


def backward(
    run: Run, layers: list[list[Weights]], of_outputs: Array, of_finals: list[Array], grads: list[list[Weights]]
) -> tuple[Array, list[Array]]:
    """Derivatives of the rows (T, D) and of the initial states; those of the weights are added to `grads`."""
    of_initial = [np.zeros_like(part) for part in of_finals]
    num_steps = len(of_outputs)
    for layer in reversed(range(len(layers))):
        num_directions = len(layers[layer])
        parts = np.split(of_outputs, num_directions, axis=1)
        of_rows = np.zeros((num_steps, layers[layer][0]["ih"].shape[1]))
        for direction in range(num_directions):
            at = layer * num_directions + direction
            d: State = tuple(part[at] for part in of_finals)
            times = range(num_steps)[:: -1 if direction else 1]
            for t, undo in zip(reversed(times), reversed(run.tapes[at]), strict=True):
                dx, d = undo((d[0] + parts[direction][t], *d[1:]), grads[layer][direction])
                of_rows[t] += dx
            for part, values in zip(of_initial, d, strict=True):
                part[at] = values
        of_outputs = of_rows
    return of_outputs, of_initial

from __future__ import annotations

import pytest
import torch

from models.heads import LSTMDims, LSTMHead, MeanOfFeatures, Pooling, SingleFrame

POOLINGS: tuple[Pooling, ...] = ("last", "mean")


def head_of(pooling: Pooling) -> LSTMHead:
    torch.manual_seed(0)
    return LSTMHead(LSTMDims(feature_size=6, hidden_size=5, num_labels=3, pooling=pooling), 0.5, 0.5).double().eval()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_past_a_length_is_not_read(pooling: Pooling) -> None:
    head = head_of(pooling)
    features, lengths = torch.rand(4, 9, 6, dtype=torch.float64), torch.tensor([9, 1, 4, 7])
    dirty = features.clone()
    for row, length in enumerate(lengths.tolist()):
        dirty[row, length:] = 1e6
    alone = torch.cat([head(features[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths.tolist())])
    torch.testing.assert_close(head(features, lengths), alone)
    torch.testing.assert_close(head(dirty, lengths), alone)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_chunks_with_carried_state_equal_the_whole(pooling: Pooling) -> None:
    head = head_of(pooling)
    features = torch.rand(2, 10, 6, dtype=torch.float64)
    state, logits = None, torch.empty(0)
    for start, stop in ((0, 1), (1, 4), (4, 10)):
        chunk = features[:, start:stop]
        logits, state = head.step(chunk, torch.full((2,), stop - start), state)
    torch.testing.assert_close(logits, head(features, torch.tensor([10, 10])))


def test_the_mean_ignores_order_and_padding_and_the_single_frame_is_the_middle_one() -> None:
    features = torch.rand(1, 6, 4)
    mean, single = MeanOfFeatures(4, 3).eval(), SingleFrame(4, 3).eval()
    five = torch.tensor([5])
    shuffled = features[:, [4, 2, 0, 1, 3, 5]]
    torch.testing.assert_close(mean(features, five), mean(shuffled, five))
    torch.testing.assert_close(mean(features, five), mean.classifier(features[:, :5].mean(dim=1)))
    torch.testing.assert_close(single(features, five), single.classifier(features[:, 2]))

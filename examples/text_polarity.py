"""Is a sentence of a film's review kind or unkind? An LSTM and a GRU read it word by word.

A sentence is the numbers of its words, from 1 (a word not among the 10,000 most frequent ones of the training part is
1 too). Each becomes a vector of 100, the recurrent layer reads them in order, and a linear layer makes two scores of
its last state. Sentences are of different lengths: rows are padded, `lengths=` tells the layer where each ends, and
what lies beyond is not computed.

A tenth of the sentences, 1,066, is held out. Half of the embedding's and of the last state's values are left out at
random while learning: the network would else soon know the 9,596 others by heart. `python examples/text_polarity.py`:

    LSTM epoch 4: loss 0.5721, 68.6% of the sentences held out right     epoch 12: loss 0.3366, 75.4%
    GRU  epoch 4: loss 0.5795, 67.5% of the sentences held out right     epoch 12: loss 0.3489, 75.7%

(One seed; with so few sentences held out, 1.3 points are one standard error. An epoch takes 2.7 s of LSTM and 2.4 s of
GRU with HOMINY_NUM_THREADS=1 on Zen 4.)

--data is a folder with rt-polarity.neg and rt-polarity.pos, one sentence a line: the sentence polarity set of Pang and
Lee (2005, https://arxiv.org/abs/cs/0506075), 5,331 of each kind.
"""

import argparse
import collections
import pathlib
import re
import time

import hominy
import numpy as np
from hominy import nn, optim
from hominy.nn import functional as F

WORDS, EMBEDDING, HIDDEN, LONGEST, BATCH = 10000, 100, 128, 40, 32


def load(folder, limit):
    """Sentences as lists of words, in random order, and 0 for unkind, 1 for kind."""
    texts, labels = [], []
    for label, kind in enumerate(("neg", "pos")):
        lines = (pathlib.Path(folder) / f"rt-polarity.{kind}").read_text(encoding="utf-8").splitlines()[:limit]
        texts += [re.findall(r"[a-z0-9']+", line.lower()) or ["?"] for line in lines]
        labels += [label] * len(lines)
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[i] for i in order], np.array(labels, "int64")[order]


def numbers(texts, index):
    """(words (N, LONGEST), lengths (N)); 0 stands behind each sentence's end."""
    words, lengths = np.zeros((len(texts), LONGEST), "int64"), np.zeros(len(texts), "int64")
    for i, text in enumerate(texts):
        found = [index.get(word, 1) for word in text[:LONGEST]]
        words[i, : len(found)], lengths[i] = found, len(found)
    return words, lengths


class Reader(nn.Module):
    """(words (N, T), lengths (N)) -> scores (N, 2)."""

    def __init__(self, cell):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, EMBEDDING, padding_idx=0)
        self.recurrent = getattr(nn, cell)(EMBEDDING, HIDDEN, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.scores = nn.Linear(HIDDEN, 2)

    def forward(self, words, lengths):
        """The scores; of the states after each sentence's last word."""
        _, state = self.recurrent(self.dropout(self.embedding(words)), lengths=lengths)
        h = state[0] if isinstance(state, tuple) else state  # an LSTM gives h and c
        return self.scores(self.dropout(h[0]))


def batches(words, lengths, labels, rng=None):
    """Batches of tensors, no longer than their longest sentence; in random order with rng."""
    order = np.arange(len(words)) if rng is None else rng.permutation(len(words))
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        longest = lengths[rows].max()
        yield hominy.tensor(words[rows, :longest]), lengths[rows], hominy.tensor(labels[rows])


def share_right(model, *data):
    """The share of sentences with the higher score for what they are."""
    model.eval()
    with hominy.no_grad():
        right = sum((model(words, lengths).numpy().argmax(1) == labels.numpy()).sum()
                    for words, lengths, labels in batches(*data))  # fmt: skip
    model.train()
    return right / len(data[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data/rt-polarity", help="folder with rt-polarity.neg and .pos")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, help="so many sentences of each kind alone")
    arguments = parser.parse_args()

    texts, labels = load(arguments.data, arguments.limit)
    held_out = len(texts) // 10
    counts = collections.Counter(word for text in texts[held_out:] for word in text)
    index = {word: i + 2 for i, (word, _) in enumerate(counts.most_common(WORDS - 2))}
    words, lengths = numbers(texts, index)
    test = [array[:held_out] for array in (words, lengths, labels)]
    train = [array[held_out:] for array in (words, lengths, labels)]

    for cell in ("LSTM", "GRU"):
        hominy.manual_seed(0)
        model, rng = Reader(cell), np.random.default_rng(0)
        optimizer = optim.Adam(model.parameters(), lr=0.001)
        for epoch in range(arguments.epochs):
            began, total = time.perf_counter(), 0.0
            for x, ends, y in batches(*train, rng):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x, ends), y)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                total += loss.item() * len(y)
            seconds, right = time.perf_counter() - began, share_right(model, *test)
            print(f"{cell:<4} epoch {epoch + 1}: loss {total / len(train[0]):.4f}, {right:.1%} of the sentences "
                  f"held out right, {seconds:.1f} s")  # fmt: skip

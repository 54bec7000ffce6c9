"""A recurrent network that reads a text character by character, and then writes on by itself.

From the characters so far, layers of GRU (or LSTM) foretell the next one: embedding (64), recurrent layers, a linear
layer to a score for each character that the text has. Learning goes along 32 places of the text at once, 64 characters
a step; the state is carried from step to step, the gradient is not (truncated backpropagation through time).

Writing takes one character at a time: `nn.StreamingRecurrent` holds packed weights and the state of all layers, and
the character drawn is the next one read. Below a temperature of 1 likely characters become more so. Loss is in bits a
character, over the last 100 steps: 6 bits are one of 64 drawn blindly. `python examples/character_model.py` teaches one
layer of 256 GRU units (HOMINY_NUM_THREADS=1, Zen 4), which then writes, among more:

    step 100: 3.44 bits a character, 4 s
    step 1000: 2.07 bits a character, 42 s

    LADY ANNE:
    Therefore live thee he diath revenning, sir.

    GLOUCESTER:
    And now I were give well me welcome.

    (400 characters in 18 ms)

--data is a text file, such as Shakespeare's plays (the 1.1 MB of
https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare).
"""

import argparse
import math
import pathlib
import time

import hominy
import numpy as np
from hominy import nn, optim
from hominy.nn import functional as F

EMBEDDING, BATCH, LENGTH = 64, 32, 64


class CharacterModel(nn.Module):
    """x (T, B) of codes -> scores (T, B, characters) of the codes that follow, and the state."""

    def __init__(self, characters, cell, hidden, layers):
        super().__init__()
        self.embedding = nn.Embedding(characters, EMBEDDING)
        self.recurrent = getattr(nn, cell)(EMBEDDING, hidden, num_layers=layers)
        self.scores = nn.Linear(hidden, characters)

    def forward(self, x, state=None):
        """The scores and the state after the last step."""
        y, state = self.recurrent(self.embedding(x), state)
        return self.scores(y), state


def detached(state):
    """The state without what led to it."""
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()


def learn(model, codes, steps):
    """Adam over the text, again from its beginning where it ends."""
    columns = (len(codes) - 1) // BATCH
    places = np.arange(BATCH) * columns
    optimizer = optim.Adam(model.parameters(), lr=0.003)
    state, at, total, began = None, 0, 0.0, time.perf_counter()
    for step in range(1, steps + 1):
        if at + LENGTH > columns:
            state, at = None, 0
        rows = np.arange(at, at + LENGTH)[:, None] + places  # (T, B)
        at += LENGTH
        optimizer.zero_grad()
        scores, state = model(hominy.tensor(codes[rows]), state)
        loss = F.cross_entropy(scores.reshape(-1, scores.shape[2]), hominy.tensor(codes[rows + 1].reshape(-1)))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state = detached(state)
        total += loss.item() / math.log(2)
        if step % 100 == 0 or step == steps:
            count = (step - 1) % 100 + 1
            print(f"step {step}: {total / count:.2f} bits a character, {time.perf_counter() - began:.0f} s")
            total = 0.0


def write(model, code, count, temperature, rng):
    """`count` codes, each drawn after those before it; the first comes after `code`."""
    embedding = model.embedding.weight.detach().numpy()
    weight, bias = model.scores.weight.detach().numpy(), model.scores.bias.detach().numpy()
    stream, written = nn.StreamingRecurrent(model.recurrent), []
    for _ in range(count):
        scores = (weight @ stream.step(embedding[code]) + bias) / temperature
        shares = np.exp(scores.astype("float64") - scores.max())
        code = int(rng.choice(len(shares), p=shares / shares.sum()))
        written.append(code)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data/tiny-shakespeare.txt", help="a text file")
    parser.add_argument("--cell", default="GRU", choices=["RNN", "LSTM", "GRU"])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--write", type=int, default=400, help="so many characters")
    parser.add_argument("--temperature", type=float, default=0.7)
    arguments = parser.parse_args()

    text = pathlib.Path(arguments.data).read_text(encoding="utf-8")
    letters = sorted(set(text))
    of_letter = {letter: code for code, letter in enumerate(letters)}
    codes = np.array([of_letter[letter] for letter in text], "int64")

    hominy.manual_seed(0)
    model = CharacterModel(len(letters), arguments.cell, arguments.hidden, arguments.layers)
    learn(model, codes, arguments.steps)

    start = of_letter.get("\n", 0)
    began = time.perf_counter()
    written = write(model, start, arguments.write, arguments.temperature, np.random.default_rng(0))
    seconds = time.perf_counter() - began
    print("".join(letters[code] for code in written))
    print(f"({arguments.write} characters in {seconds * 1e3:.0f} ms)")

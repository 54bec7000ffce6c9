"""Tables of vectors, looked up by number."""

from __future__ import annotations

from typing import Any, TypeVar

from ..autograd import no_grad
from ..creation import empty
from ..tensor import Tensor
from ..utils.arguments import choice, integer, number, wrong
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

E = TypeVar("E", bound="_Table")


class _Table(Module):
    """weight: (num_embeddings, embedding_dim), normal at first; the row `padding_idx` is 0, and has no gradient."""

    def _make(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        weight: Tensor | None,
        freeze: bool,
        device: Any,
        dtype: Any,
    ) -> None:
        where = type(self).__name__
        choice(where, "device", device, (None, "cpu"))
        self.num_embeddings = integer(where, "num_embeddings", num_embeddings)
        self.embedding_dim = integer(where, "embedding_dim", embedding_dim)
        if padding_idx is not None:
            rows = self.num_embeddings
            padding_idx = integer(where, "padding_idx", padding_idx, lowest=-rows)
            if padding_idx >= rows:
                raise ValueError(wrong(where, "padding_idx", f"an integer in [-{rows}, {rows})", padding_idx))
            padding_idx %= rows
        self.padding_idx = padding_idx
        self.max_norm = None if max_norm is None else number(where, "max_norm", max_norm, low=0.0)
        self.norm_type = number(where, "norm_type", norm_type)
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        shape = (self.num_embeddings, self.embedding_dim)
        if weight is None:
            self.weight = Parameter(empty(shape, dtype=dtype), requires_grad=not freeze)
            self.reset_parameters()
        elif tuple(weight.shape) != shape:
            raise ValueError(wrong(where, "weight", f"shape {shape}", tuple(weight.shape)))
        else:
            self.weight = Parameter(weight.detach(), requires_grad=not freeze)

    def reset_parameters(self) -> None:
        """Draw the rows anew from the standard normal distribution."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    @classmethod
    def _of_rows(cls: type[E], embeddings: Tensor, freeze: bool, **settings: Any) -> E:
        if not isinstance(embeddings, Tensor) or embeddings.dim() != 2:
            got = tuple(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
            raise ValueError(f"[{cls.__name__}] embeddings: expected a tensor of 2 dimensions, got {got}")
        make: Any = cls
        return make(*embeddings.shape, _weight=embeddings, _freeze=freeze, **settings)

    def _settings(self) -> str:
        text = "" if self.max_norm is None else f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            text += f", norm_type={self.norm_type}"
        return text + (f", scale_grad_by_freq={self.scale_grad_by_freq}" if self.scale_grad_by_freq else "")


class Embedding(_Table):
    """weight[x] of integers x: (*) -> (*, embedding_dim).

    max_norm: rows that are used are first scaled down, in place, to that `norm_type`-norm. scale_grad_by_freq: a row's
    gradient is divided by how often it is used. `sparse` is accepted for the sake of ported code: gradients are dense.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self._make(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight,
            _freeze, device, dtype,
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A layer over the rows of `embeddings`, whose memory it shares; `freeze`: it does not learn."""
        return cls._of_rows(
            embeddings, freeze, padding_idx=padding_idx, max_norm=max_norm, norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq, sparse=sparse,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sparse = ", sparse=True" if self.sparse else ""
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}{self._settings()}{sparse}"


class EmbeddingBag(_Table):
    """The sum, mean or largest of bags of rows: bags (B, L), or (L,) cut at `offsets` (B,) -> (B, embedding_dim).

    Without the rows in between; an empty bag gives 0. per_sample_weights, of input's shape, multiply the rows of a sum.
    padding_idx: that row belongs to no bag. include_last_offset: the last offset is the end of the last bag.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
        _freeze: bool = False,
    ):
        super().__init__()
        self.mode = choice("EmbeddingBag", "mode", mode, ("sum", "mean", "max"))
        self.include_last_offset = include_last_offset
        self._make(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight,
            _freeze, device, dtype,
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """A layer over the rows of `embeddings`, whose memory it shares; `freeze`: it does not learn."""
        return cls._of_rows(
            embeddings, freeze, max_norm=max_norm, norm_type=norm_type, scale_grad_by_freq=scale_grad_by_freq,
            mode=mode, sparse=sparse, include_last_offset=include_last_offset, padding_idx=padding_idx,
        )  # fmt: skip

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{self._settings()}, mode={self.mode!r}{padding}"

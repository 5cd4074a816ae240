"""Renaming, cutting and joining the tensors of a checkpoint by a table that works both ways."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

State = Mapping[str, Tensor]
_Convert = Callable[[Sequence[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Direction:
    """Tensors named `sources` make those named `targets`. In a name * stands for a number, and
    at its end weight or bias is to be added where it ends in a dot or an underscore."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    convert: _Convert

    @cached_property
    def patterns(self) -> list[re.Pattern[str]]:
        return [_pattern(name) for name in self.sources]


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors of Meta's layout and the tensors of transformers' layout that hold the same."""

    meta: tuple[str, ...]
    transformers: tuple[str, ...]
    to_transformers: _Convert = list
    to_meta: _Convert = list

    def below(self, meta: str, transformers: str) -> "Rule":
        """The same rule under two prefixes."""
        return Rule(
            tuple(meta + name for name in self.meta),
            tuple(transformers + name for name in self.transformers),
            self.to_transformers,
            self.to_meta,
        )

    @property
    def forwards(self) -> Direction:
        return Direction(self.meta, self.transformers, self.to_transformers)

    @property
    def backwards(self) -> Direction:
        return Direction(self.transformers, self.meta, self.to_meta)


Row = tuple[str, str] | Rule  # a pair is a plain change of name


def under(meta: str, transformers: str, rows: Sequence[Row]) -> list[Rule]:
    """Rows below two prefixes."""
    rules = (row if isinstance(row, Rule) else Rule((row[0],), (row[1],)) for row in rows)
    return [rule.below(meta, transformers) for rule in rules]


def fused(meta: str, transformers: str) -> Rule:
    """Query, key and value projections: one matrix in Meta's layout, three in the other."""
    return Rule(
        (meta,),
        tuple(f"{transformers}{which}_proj." for which in "qkv"),
        lambda one: one[0].chunk(3),
        lambda three: [torch.cat(list(three))],
    )


def transposed(one: Sequence[Tensor]) -> Sequence[Tensor]:
    return [one[0].T.contiguous()]


_Parts = dict[int, str]  # names by their place in a direction's sources


def apply(state: State, directions: Sequence[Direction]) -> dict[str, Tensor]:
    """What no direction knows, or only in part, is passed on under its own name."""
    result: dict[str, Tensor] = {}
    gathered: defaultdict[tuple[int, tuple[str, ...]], _Parts] = defaultdict(dict)
    for name in state:
        found = _find(name, directions)
        if found is None:
            result[name] = state[name]
        else:
            rule, place, blanks = found
            gathered[rule, blanks][place] = name
    for (rule, blanks), parts in gathered.items():
        result.update(_converted(state, directions[rule], blanks, parts))
    return result


def _find(name: str, directions: Sequence[Direction]) -> tuple[int, int, tuple[str, ...]] | None:
    """The rule for a name, the name's place in it, and what filled its blanks."""
    for number, direction in enumerate(directions):
        for place, pattern in enumerate(direction.patterns):
            if match := pattern.fullmatch(name):
                return number, place, match.groups()
    return None


def _converted(
    state: State, direction: Direction, blanks: tuple[str, ...], parts: _Parts
) -> dict[str, Tensor]:
    if len(parts) < len(direction.sources):  # some are missing: name what is there
        return {name: state[name] for name in parts.values()}
    tensors = direction.convert([state[parts[place]] for place in sorted(parts)])
    names = [_fill(target, blanks) for target in direction.targets]
    return dict(zip(names, tensors, strict=True))


def _pattern(name: str) -> re.Pattern[str]:
    tail = "(weight|bias)" if name.endswith((".", "_")) else ""
    return re.compile(re.escape(name).replace(r"\*", r"(\d+)") + tail)


def _fill(name: str, blanks: tuple[str, ...]) -> str:
    numbers = iter(blanks)
    filled = re.sub(r"\*", lambda _: next(numbers), name)
    return filled + next(numbers, "")

"""The gate's policy: a file under review, validated, with a documented default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from rmbench.core import Suite
from rmbench.errors import UsageError

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Open = Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
Floor = Annotated[float, msgspec.Meta(ge=-1, le=1)]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gate]`` of ``rmbench.toml``. All numbers are shares (0.01 is one point); the defaults are the policy without a
    file::

        [gate]
        margin = 0.02             # a true loss smaller than this is accepted
        alpha = 0.05              # one-sided: chance to pass a candidate that is exactly a margin worse
        coverage = 1.0            # share of the suite's items that both runs must have judged
        max_errors = 0.01         # share of items on which the candidate may have failed
        consistency = 0.8         # judges: share of items with one verdict in both orders (default: not asked)
        suites = ["rewardbench"]  # default: the suite of the runs given
        scopes = ["overall", "Safety"]   # default: overall and every category

        [gate.margins]            # by category, or overall
        Safety = 0.01

        [gate.floors]             # absolute values that no candidate may fall below
        overall = 0.70
    """

    margin: Share = 0.02
    alpha: Open = 0.05
    coverage: Share = 1.0
    max_errors: Share = 0.01
    consistency: Share | None = None
    suites: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    margins: dict[str, Share] = {}
    floors: dict[str, Floor] = {}

    def margin_of(self, scope: str) -> float:
        return self.margins.get(title(scope), self.margin)

    def floor_of(self, scope: str) -> float | None:
        return self.floors.get(title(scope))

    def check(self, *cards: Suite) -> None:
        """Raises UsageError for a name that none of the suites has or that is not judged: a margin for nothing protects
        nothing."""
        known = {"overall", "micro", *(category for card in cards for category in card.categories)}
        asked = {*self.scopes, *self.margins, *self.floors}
        if unknown := sorted(asked - known):
            suites, names = " and ".join(card.name for card in cards), ", ".join(sorted(known))
            raise UsageError(f"the policy names {', '.join(unknown)}, which {suites} does not have; known: {names}")
        if idle := sorted({*self.margins, *self.floors} - (set(self.scopes) or known - {"micro"})):
            raise UsageError(
                f"the policy has a margin or floor for {', '.join(idle)}, which it does not judge: add to scopes"
            )


def title(scope: str) -> str:
    """A scope as the policy writes it: a category's plain name, ``overall``."""
    return scope.removeprefix("category:")


def read_policy(path: Path | None) -> Policy:
    """``[gate]`` of a TOML file; the defaults for None. Raises UsageError naming file, key and value."""
    if path is None:
        return Policy()
    import tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the policy {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    if "gate" not in table:
        raise UsageError(f"{path} has no table [gate]; its tables: {', '.join(table) or 'none'}")
    try:
        return msgspec.convert(table["gate"], Policy)
    except msgspec.ValidationError as error:
        known = ", ".join(Policy.__struct_fields__)
        raise UsageError(f"{path}, [gate]: {error}; the keys are {known}") from error

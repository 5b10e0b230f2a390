"""What doctor says of execution providers: which agree with the bundles' makers, and which of those is the fastest."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.errors import OverreadError

if TYPE_CHECKING:
    from daemon.bootstrap import House
    from daemon.domain.provider import Provider
    from daemon.inference.bundle import Bundle
    from daemon.inference.session import Model

# Less is the machine's mood.
_WORTH = 1.1


@dataclass(kw_only=True)
class Tried:
    """How one provider did: seconds for a chunk by every model, nodes by who runs them, what its answers differ by."""

    provider: "Provider"
    seconds: float = 0.0
    placed: Counter[str] = field(default_factory=Counter)
    verdicts: list[str] = field(default_factory=list)
    fault: str = ""

    @property
    def words(self) -> str:
        """Return how it did."""
        if self.fault:
            return f"{self.provider} refused ({self.fault})"
        most = f", {max(self.placed.values())} of {self.placed.total()} nodes" if self.placed else ""
        agreement = f", {'; '.join(self.verdicts)}" if self.placed else ""
        return f"{self.provider} {self.seconds:.3f} s{most}{agreement}"


def providers(house: "House", *, measure: bool) -> str:
    """Return in words which providers are installed, and how they did where there are several or `measure` says so.

    Raises:
        OverreadError: the one that is configured is not installed, cannot start, or gives other answers.
    """
    from daemon.inference.bundle import needed
    from daemon.inference.provider import installed, need

    configured = house.settings.inference.provider
    need(configured)
    there = installed()
    if len(there) == 1 and not measure:
        return f"{configured}; no other is installed"
    tried = [Tried(provider=provider) for provider in there]
    for bundle in needed(house.settings.models(), house.settings.inference.trusted_keys):
        _try(bundle, tried, house.settings.inference.threads)
    return judge(tried, configured)


def judge(tried: Sequence[Tried], configured: "Provider") -> str:
    """Return in words how providers did, and what to set where another than the one `configured` is clearly faster.

    Raises:
        OverreadError: the one configured was refused.
    """
    sound = sorted((one for one in tried if not one.fault), key=lambda one: one.seconds)
    ours = next(one for one in tried if one.provider is configured)
    best = sound[0] if sound else ours
    told = "; ".join(one.words for one in tried)
    if ours.fault:
        mend = f"set inference.provider = {best.provider}" if sound else "install the onnxruntime that the bundles name"
        raise OverreadError(f"{told}; {mend}")
    if best.seconds * _WORTH < ours.seconds:
        return f"{told}; set inference.provider = {best.provider}: {ours.seconds / best.seconds:.1f} times as fast here"
    return f"{told}; {configured} is as fast as any here"


def _try(bundle: "Bundle", tried: Sequence[Tried], threads: int) -> None:
    """Have every provider that was not refused yet run a bundle's golden input, and a chunk for time."""
    from daemon.inference.timing import medians

    models = [(one, model) for one in tried if not one.fault and (model := _agreeing(bundle, one, threads))]
    if models:
        for (one, model), seconds in zip(models, medians([model for _, model in models]), strict=True):
            one.seconds += seconds
            one.placed += model.engine.placed


def _agreeing(bundle: "Bundle", one: Tried, threads: int) -> "Model | None":
    from daemon.inference.agreement import examine
    from daemon.inference.session import Model

    try:
        model = Model(bundle, threads=threads, provider=one.provider)
        verdict = examine(model)
    except OverreadError as error:
        one.fault = str(error)
        return None
    said = f"{bundle.ref.name}: {verdict.detail}"
    if verdict.ok:
        one.verdicts.append(said)
        return model
    one.fault = said
    return None

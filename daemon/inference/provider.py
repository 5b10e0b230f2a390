"""What each execution provider comes with, and whether that is installed; nothing is loaded to say so."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from daemon.domain.provider import Provider
from daemon.errors import FatalError

# An execution provider of its own beside ONNX Runtime, which stays as it is.
PLUGIN = "onnxruntime_ep_openvino"
# Fills the same folder as the package onnxruntime and so takes its place.
_WITH_CUDA = "onnxruntime-gpu"


class ProviderError(FatalError):
    """A bundle cannot be run on the execution provider that is configured, or gives other answers there."""


def installed() -> tuple[Provider, ...]:
    """Return the providers whose packages are installed; whether their libraries and device are there is not asked."""
    return tuple(provider for provider in Provider if _there(provider))


def need(provider: Provider) -> None:
    """Check that the packages of `provider` are installed.

    Raises:
        ProviderError: one is not; the mend is in it.
    """
    if _there(provider):
        return
    raise ProviderError(f"inference.provider = {provider} needs {_mend(provider)}; or set it to cpu")


def _there(provider: Provider) -> bool:
    if provider.by_gpu:
        return _version(_WITH_CUDA) is not None
    return provider is Provider.CPU or find_spec(PLUGIN) is not None


def _mend(provider: Provider) -> str:
    if not provider.by_gpu:
        return f"{PLUGIN.replace('_', '-')}; run `pip install overread[openvino]`"
    also = ' "tensorrt-cu13<11"' if provider is Provider.TENSORRT else ""
    wanted = f'"{_WITH_CUDA}[cuda,cudnn]=={_version("onnxruntime") or "VERSION"}"{also}'
    return f"{_WITH_CUDA} in the place of onnxruntime; run `pip uninstall onnxruntime`, then `pip install {wanted}`"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""Execution providers: what ONNX Runtime runs a bundle's graphs on."""

from enum import StrEnum


class Provider(StrEnum):
    """The ones that bundles are run on; `cpu` is ONNX Runtime's own, which bundles are made and checked with."""

    CPU = "cpu"
    OPENVINO = "openvino"
    CUDA = "cuda"
    TENSORRT = "tensorrt"

    @property
    def by_gpu(self) -> bool:
        """Return whether it needs an NVIDIA GPU."""
        return self in {Provider.CUDA, Provider.TENSORRT}

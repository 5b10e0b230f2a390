"""Opens graphs on one execution provider, and never on another without a word."""

import importlib
import json
import sys
from collections import Counter
from contextlib import redirect_stdout

import onnxruntime

from daemon.domain.provider import Provider
from daemon.inference.provider import PLUGIN, ProviderError, need

# By ONNX Runtime's names.
_CPU = "CPUExecutionProvider"
_NAMES = {
    Provider.CPU: _CPU,
    Provider.OPENVINO: "OpenVINOExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
}
# By default kernels are timed as work goes on, and which one wins decides the last bits; and TF32 has 10 bits of
# mantissa. onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
# For graphs that say themselves what is INT8. onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
_TENSORRT_OPTIONS = {"trt_int8_enable": "True"}


class Engine:
    """Opens graphs on `provider`, with so many threads for what runs on the CPU."""

    def __init__(self, provider: Provider, threads: int) -> None:
        """Set up the provider.

        Raises:
            ProviderError: it is not installed, or finds no device.
        """
        need(provider)
        self.provider = provider
        # How many nodes of the graphs opened so far run on which provider, by ONNX Runtime's names; CPU alone: empty.
        self.placed: Counter[str] = Counter()
        self._options = onnxruntime.SessionOptions()
        self._options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._options.intra_op_num_threads = threads
        self._options.inter_op_num_threads = 1
        self._options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._providers: list[tuple[str, dict[str, str]]] | None = [(_CPU, {})]
        if provider is not Provider.CPU:
            self._options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if provider is Provider.OPENVINO:
            self._options.add_provider_for_devices([_plugged()], {"load_config": _openvino_settings(threads)})
            self._providers = None
        elif provider.by_gpu:
            # It prints what is missing, and our standard output may be JSON.
            with redirect_stdout(sys.stderr):
                onnxruntime.preload_dlls()
            self._options.use_deterministic_compute = True
            above = [(_NAMES[Provider.TENSORRT], _TENSORRT_OPTIONS)] if provider is Provider.TENSORRT else []
            self._providers = [*above, (_NAMES[Provider.CUDA], _CUDA_OPTIONS), (_CPU, {})]

    def open(self, content: bytes, *, arena: bool) -> onnxruntime.InferenceSession:
        """Open a graph; its session keeps the CPU memory of its runs for the next where there is an `arena`.

        Raises:
            ProviderError: the provider refuses it or runs none of it.
            Exception: ONNX Runtime refuses it on the CPU, by a class of its own per fault.
        """
        self._options.enable_cpu_mem_arena = arena
        try:
            session = onnxruntime.InferenceSession(content, self._options, providers=self._providers, enable_fallback=0)
        except Exception as error:
            if self.provider is Provider.CPU:
                raise
            cause = str(error).strip()
            raise ProviderError(
                f"inference.provider = {self.provider} cannot open a graph ({cause}); mend that, or set it to cpu"
            ) from error
        if self.provider is not Provider.CPU:
            self._note(session)
        return session

    def _note(self, session: onnxruntime.InferenceSession) -> None:
        wanted = _NAMES[self.provider]
        # A provider that cannot start is left out, and the next one taken, with a line in the log alone.
        if wanted not in session.get_providers():
            raise ProviderError(
                f"inference.provider = {self.provider} cannot start on this machine: ONNX Runtime has logged what it "
                "lacks, a driver or a library; install that, or set it to cpu"
            )
        nodes = Counter({part.ep_name: len(part.get_nodes()) for part in session.get_provider_graph_assignment_info()})
        if not nodes[wanted]:
            raise ProviderError(
                f"inference.provider = {self.provider} runs nothing of a graph, all of it would run on "
                f"{', '.join(nodes)}; set it to cpu"
            )
        self.placed += nodes


def _plugged() -> onnxruntime.OrtEpDevice:
    """Return OpenVINO's CPU device; its library is loaded once in a process."""
    name = _NAMES[Provider.OPENVINO]
    if not any(device.ep_name == name for device in onnxruntime.get_ep_devices()):
        library = importlib.import_module(PLUGIN).get_library_path()
        onnxruntime.register_execution_provider_library(PLUGIN, library)
    found = [d for d in onnxruntime.get_ep_devices() if d.ep_name == name and d.ep_metadata.get("ov_device") == "CPU"]
    if not found:
        raise ProviderError("inference.provider = openvino finds no CPU that it knows here; set it to cpu")
    return found[0]


def _openvino_settings(threads: int) -> str:
    """Return OpenVINO's own settings; where the CPU has bfloat16 it would else work with that rather than FP32."""
    settings = {"INFERENCE_NUM_THREADS": str(threads), "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}
    return json.dumps({"CPU": settings})

"""Runs model bundles with ONNX Runtime; MC-dropout by masks as inputs."""

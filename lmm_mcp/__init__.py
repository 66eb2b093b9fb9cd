"""The house: vocabulary, store, recall, memory model, server."""

import os

# Libraries that report to their makers, and are on unless told otherwise before they are loaded. ONNX Runtime's own switch
# in Python comes too late: by then it has made a device id and begun to send. Nothing leaves this machine.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

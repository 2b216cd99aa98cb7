from parity.protocols import Artifact
from parity.testing import RuntimeConformance
from tests.runtimes.models import commands_cnn


class TestOnnxConformance(RuntimeConformance):
    spec = "onnxrt"

    def artifact(self) -> Artifact:
        return commands_cnn("onnx")

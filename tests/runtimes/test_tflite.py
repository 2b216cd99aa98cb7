from parity.protocols import Artifact
from parity.testing import RuntimeConformance
from tests.runtimes.models import commands_cnn


class TestTfliteConformance(RuntimeConformance):
    spec = "tflite"

    def artifact(self) -> Artifact:
        return commands_cnn("tflite")

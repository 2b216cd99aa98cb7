from parity.protocols import Artifact
from parity.testing import RuntimeConformance
from tests.runtimes.models import commands_cnn


class TestTorchConformance(RuntimeConformance):
    spec = "torch"

    def artifact(self) -> Artifact:
        return commands_cnn("torch")
